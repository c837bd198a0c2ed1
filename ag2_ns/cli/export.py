"""`ag2 export`: what texts, clicks, a box or a file select, and the rest, in forms that other programs read."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from ag2_ns.cli.picking import SOURCES, PickingMany
from ag2_ns.core.errors import UserError

Format = Literal["splat", "anchors", "boxes", "hulls", "occupancy", "grasp", "semantic"]


@dataclass
class Export(PickingMany):
    """Write pieces of a scene for other programs, edits included.

    labels.json says for every instance what it is called, how large it is and where. What an earlier export left in the
    folder is removed.
    """

    output_dir: Path
    """Where the files go."""
    _: KW_ONLY
    all: bool = False
    """The whole scene, nothing selected."""
    format: tuple[Format, ...] = ("splat", "boxes")
    """splat: 3D Gaussian Splatting .ply of each piece and of the rest. anchors: point cloud with graph and features.
    boxes, hulls: .glb of one solid per instance. occupancy: voxels of instances, seen free or never seen. grasp: pose,
    size, footprint, hull and surface of each for robots, in the capture's own frame. semantic: .ply with COS3D's
    semantic_0 .. semantic_15 (needs a language field)."""
    box_shape: Literal["box", "upright", "oriented"] = "upright"
    """Boxes along the axes, turned about the vertical, or turned freely."""
    world: bool = False
    """In the frame that the cameras were given in (that of COLMAP), not the run's."""
    vocabulary: tuple[str, ...] = ()
    """Words that name the instances that are not selected."""
    voxel: float = 0.05
    """occupancy: edge of a voxel, in units of the frame of the files."""
    density: float = 0.3
    """occupancy: sum of opacities from which a voxel is full."""
    metres_per_unit: float | None = None
    """What a unit of the capture's cameras is in metres, for grasp: its files are then in metres."""
    edits: bool = True
    """Apply the scene's edits."""

    def main(self) -> None:
        """Export."""
        from ag2_ns.core.console import console
        from ag2_ns.export.formats import ExportOptions
        from ag2_ns.io.atomic import require_writable

        self.check()
        if bool(self.given()) == self.all:
            rest = "or the whole scene with --all" + (", not both" if self.all else "")
            raise UserError(f"give pieces with {SOURCES}; {rest}")
        if self.metres_per_unit is not None and not 0 < self.metres_per_unit < float("inf"):
            raise UserError(f"--metres-per-unit {self.metres_per_unit}: give a positive number")
        require_writable(self.output_dir)
        scene = self.open(edits=self.edits)
        level = 0.5 if self.level is None else self.level
        options = ExportOptions(
            level, self.world, self.box_shape, self.vocabulary, self.voxel, self.density, self.metres_per_unit
        )
        out = console()
        for path, what in scene.export(self.output_dir, *self.picked(scene), formats=self.format, options=options):
            out.print(f"{path}  {what}")
