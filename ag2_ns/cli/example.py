"""`ag2 example`: make the table-top scene, the room, or drives through streets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ag2_ns.core.errors import UserError

SIZES = {"tabletop": (640, 480), "room": (640, 480), "street": (96, 56)}
"""Width and height of the pictures where they are not given."""


@dataclass
class Example:
    """Make an example scene: pictures, poses and exact ground truth.

    tabletop and room have points, simulated masks and features: ns-train ag2aussian --data PATH
    street has six cameras, LiDAR, depth, features and voxels: ns-train gausstr-small --data PATH
    """

    out: tyro.conf.Positional[Path]
    """Folder to make."""
    scene: Literal["tabletop", "room", "street"] = "tabletop"
    """A laid table seen from all sides, a walk through a furnished room, or drives with six cameras."""
    seed: int = 0
    """What stands where, colours, camera jitter and noise."""
    objects: int | None = None
    """Things on the table (14 by default), or in the room besides its furniture (64)."""
    views: int | None = None
    """Pictures to take: 80 around the table, 300 in the room."""
    frames: int = 64
    """street: instants to train on, four a drive; each has six pictures."""
    eval_frames: int = 8
    """street: instants to evaluate, of further drives."""
    width: int | None = None
    """Pixels across; 640, or 96 in the street."""
    height: int | None = None
    """Pixels down; 480, or 56 in the street."""
    patch: int = 8
    """street: pixels along the edge of a patch of features."""
    reach: float = 40.0
    """street: half the width of the square of voxels around the car, metres."""
    mixed: bool = False
    """street: trucks, buses, bicycles and barriers beside cars, people and cones."""
    workers: int = 1
    """street: processes that make drives at the same time."""
    noise: str | None = None
    """Defects of the simulated masks, features and depth: 0 perfect, 1 mild (the default), 2 twice as bad; wild (the
    room's) errs as SAM and CLIP do, among twins and look-alikes. Its knobs: wild:wholes=0.5,border=3."""
    overwrite: bool = False
    """Replace an example scene that is already there."""

    def main(self) -> None:
        """Make the scene and say where it is."""
        wide, high = SIZES[self.scene]
        size = {
            "width": wide if self.width is None else self.width,
            "height": high if self.height is None else self.height,
        }
        for name, value in size.items():
            if value < 1:
                raise UserError(f"--{name} {value}: give a number of pixels")
        if self.scene == "street":
            self._street(size)
        else:
            self._things(size)

    def _street(self, size: dict[str, int]) -> None:
        from ag2_ns.core.console import console
        from ag2_ns.synthetic import street

        try:
            noise = float(self.noise or 1)
        except ValueError:
            raise UserError(f"--noise {self.noise}: a street takes a number, 0 to 3") from None
        street.generate(
            self.out,
            seed=self.seed,
            frames=self.frames,
            eval_frames=self.eval_frames,
            patch=self.patch,
            reach=self.reach,
            noise=noise,
            mixed=self.mixed,
            workers=self.workers,
            overwrite=self.overwrite,
            **size,
        )
        console().print(f"{self.frames} frames to train on, {self.eval_frames} to evaluate: {self.out}")

    def _things(self, size: dict[str, int]) -> None:
        from ag2_ns.core.console import console
        from ag2_ns.synthetic.room import generate_room
        from ag2_ns.synthetic.tabletop.generate import generate
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
        make(self.out, seed=self.seed, objects=objects, views=views, noise=level, overwrite=self.overwrite, **size)
        console().print(f"{objects} objects, {views} views: {self.out}")
