"""`ag2 example`: make the table-top scene, or drives through streets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ag2_ns.core.errors import UserError

TABLE_TOP, STREET = {"width": 640, "height": 480}, {"width": 96, "height": 56}


@dataclass
class Example:
    """Make an example scene: pictures, poses and exact ground truth.

    tabletop has points, simulated masks and features: ns-train ag2aussian --data PATH
    street has six cameras, LiDAR, depth, features and voxels: ns-train gausstr-small --data PATH
    """

    out: tyro.conf.Positional[Path]
    """Folder to make."""
    scene: Literal["tabletop", "street"] = "tabletop"
    """What to make."""
    seed: int = 0
    """What stands where, colours, camera jitter and noise."""
    objects: int = 14
    """tabletop: objects on the table."""
    views: int = 80
    """tabletop: pictures to take around the table."""
    frames: int = 64
    """street: instants to train on, four a drive; each has six pictures."""
    eval_frames: int = 8
    """street: instants to evaluate, of further drives."""
    width: int | None = None
    """Pixels across; 640 on the table-top, 96 in the street."""
    height: int | None = None
    """Pixels down; 480 and 56."""
    patch: int = 8
    """street: pixels along the edge of a patch of features."""
    reach: float = 40.0
    """street: half the width of the square of voxels around the car, metres."""
    mixed: bool = False
    """street: trucks, buses, bicycles and barriers beside cars, people and cones."""
    noise: float = 1.0
    """Defects of the simulated masks, features and depth: 0 perfect, 1 realistic, 2 twice as bad."""
    overwrite: bool = False
    """Replace an example scene that is already there."""

    def main(self) -> None:
        """Make the scene and say where it is."""
        from ag2_ns.core.console import console

        sizes = TABLE_TOP if self.scene == "tabletop" else STREET
        width, height = self.width or sizes["width"], self.height or sizes["height"]
        for name in ("width", "height"):
            if getattr(self, name) == 0:
                raise UserError(f"--{name} 0: give a number of pixels")
        if self.scene == "street":
            from ag2_ns.synthetic import street

            street.generate(
                self.out,
                seed=self.seed,
                frames=self.frames,
                eval_frames=self.eval_frames,
                width=width,
                height=height,
                patch=self.patch,
                reach=self.reach,
                noise=self.noise,
                mixed=self.mixed,
                overwrite=self.overwrite,
            )
            console().print(f"{self.frames} frames to train on, {self.eval_frames} to evaluate: {self.out}")
            return
        from ag2_ns.synthetic.tabletop import generate

        generate(
            self.out,
            seed=self.seed,
            objects=self.objects,
            views=self.views,
            width=width,
            height=height,
            noise=self.noise,
            overwrite=self.overwrite,
        )
        console().print(f"{self.objects} objects, {self.views} views: {self.out}")
