"""`ag2 example`: make the table-top scene or the room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class Example:
    """Make a scene: pictures, poses, points, simulated masks and features, exact ground truth.

    The folder can be trained on directly: ns-train ag2aussian --data PATH
    """

    out: tyro.conf.Positional[Path]
    """Folder to make."""
    scene: Literal["tabletop", "room"] = "tabletop"
    """A laid table seen from all sides, or a walk through a furnished room."""
    seed: int = 0
    """What stands where, colours, camera jitter and noise."""
    objects: int | None = None
    """Things on the table (14 by default), or in the room besides its furniture (64)."""
    views: int | None = None
    """Pictures to take: 80 around the table, 300 in the room."""
    width: int = 640
    """Pixels across."""
    height: int = 480
    """Pixels down."""
    noise: str | None = None
    """Defects of the simulated masks and features: 0 perfect, 1 mild (the table's default), 2 twice as bad; wild (the
    room's) errs as SAM and CLIP do, among twins and look-alikes. Its knobs: wild:wholes=0.5,border=3."""
    overwrite: bool = False
    """Replace an example scene that is already there."""

    def main(self) -> None:
        """Make the scene and say where it is."""
        from ag2_ns.core.console import console
        from ag2_ns.synthetic.room import generate_room
        from ag2_ns.synthetic.tabletop import generate
        from ag2_ns.synthetic.wild import Difficulty

        is_room = self.scene == "room"
        noise = self.noise if self.noise is not None else "wild" if is_room else "1"
        objects = self.objects if self.objects is not None else 64 if is_room else 14
        views = self.views if self.views is not None else 300 if is_room else 80
        try:
            level = float(noise)
        except ValueError:
            level = Difficulty.parse(noise)
        make = generate_room if is_room else generate
        make(
            self.out, seed=self.seed, objects=objects, views=views, width=self.width, height=self.height, noise=level,
            overwrite=self.overwrite,
        )  # fmt: skip
        console().print(f"{objects} objects, {views} views: {self.out}")
