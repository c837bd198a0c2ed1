"""`ag2 example`: make the table-top scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass
class Example:
    """Make the table-top scene: pictures, poses, points, simulated masks and features, exact ground truth.

    The folder can be trained on directly: ns-train ag2aussian --data PATH
    """

    out: tyro.conf.Positional[Path]
    """Folder to make."""
    seed: int = 0
    """What stands where, colours, camera jitter and noise."""
    objects: int = 14
    """Objects on the table."""
    views: int = 80
    """Pictures to take around the table."""
    width: int = 640
    """Pixels across."""
    height: int = 480
    """Pixels down."""
    noise: float = 1.0
    """Defects of the simulated masks and features: 0 perfect, 1 realistic, 2 twice as bad."""
    overwrite: bool = False
    """Replace an example scene that is already there."""

    def main(self) -> None:
        """Make the scene and say where it is."""
        from ag2_ns.core.console import console
        from ag2_ns.synthetic.tabletop import generate

        generate(
            self.out,
            seed=self.seed,
            objects=self.objects,
            views=self.views,
            width=self.width,
            height=self.height,
            noise=self.noise,
            overwrite=self.overwrite,
        )
        console().print(f"{self.objects} objects, {self.views} views: {self.out}")
