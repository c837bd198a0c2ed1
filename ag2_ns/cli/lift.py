"""`ag2 lift`: instances and language for a splat that exists already."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from ag2_ns.core.errors import UserError
from ag2_ns.plugin.lifting import LiftJob


@dataclass
class Lift(LiftJob):
    """Group a splat into anchors, lift the scene's masks, and write a run that every command opens.

    Takes a run of ag2aussian or splatfacto (--load-config), a 3DGS .ply with its prepared scene (--ply --data), or a
    point cloud with the calibration of its cameras (--points --data). The splat or cloud itself is not changed.
    """

    _: KW_ONLY
    points: Path | None = None
    """A point cloud: .ply, .pcd, .bin, .las, .laz, .npz, .pth or text; or the folder of --data, if that names one."""
    unit: Literal["m", "cm", "mm", "ft"] = "m"
    """Of the cloud's coordinates (with --points)."""
    segmenter: str = "auto"
    """Of the cloud's pictures, as in `ag2 prepare` (with --points)."""
    encoder: str = "auto"
    """Of their masks, as in `ag2 prepare` (with --points)."""
    sam_checkpoint: Path | None = None
    """With --points, as in `ag2 prepare`."""
    checkpoint: str | None = None
    """With --points, as in `ag2 prepare`."""
    siglip_checkpoint: str | None = None
    """With --points, as in `ag2 prepare`."""
    clip_checkpoint: str | None = None
    """With --points, as in `ag2 prepare`."""
    clip_model: str | None = None
    """With --points, as in `ag2 prepare`."""
    longest: int = 960
    """Pixels on the longer side of the pictures that masks are made of (with --points)."""

    def main(self) -> None:
        """Lift and report."""
        if self.points is not None:
            return self._lift_points()
        from ag2_ns.core.console import command_line, console

        out = console()
        path, pipeline, seconds = self.lift(out.print)
        scene = pipeline.live.scene()
        index = scene.require_index()
        out.print(
            f"{len(scene.gaussians):,} Gaussians, {index.num_anchors:,} anchors, "
            f"{len(index.tree.instances(0.5)):,} objects, "
            f"{'with' if index.has_language else 'without'} language; {seconds:.1f} s"
        )
        out.print(f"run        {path}")
        out.print(f"look       {command_line('ns-viewer', '--load-config', path)}")
        if index.has_language:
            text = scene.texts.example()
            ask = command_line("ag2", "query", "--load-config", path, "--text", text, "--output-dir", "query")
            out.print(f"ask        {ask}")

    def _lift_points(self) -> None:
        """Lift masks of surround pictures onto a cloud, write the scene and report."""
        import time

        from ag2_ns.core.console import command_line, console
        from ag2_ns.core.notice import view_progress
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.io.calibration import read_rig
        from ag2_ns.io.points import read_rig_cloud
        from ag2_ns.ops.device import choose_device
        from ag2_ns.plugin.prepare import Prepare
        from ag2_ns.rendering.choose import choose_rasterizer
        from ag2_ns.scene.points import as_scene, scene_of_points
        from ag2_ns.scene.scene_file import FILE_NAME, save_scene

        if self.load_config is not None or self.ply is not None:
            raise UserError("--points: leave --load-config and --ply out")
        if self.data is None:
            raise UserError(f"{self.points}: a cloud needs the calibration of its cameras; name its folder with --data")
        if self.longest < 32:
            raise UserError(f"--longest {self.longest}: give 32 pixels or more")
        require_writable(self.output_dir)
        rig = read_rig(self.data).scaled(self.longest)
        cloud = read_rig_cloud(self.points, rig, self.unit)
        out = console()
        if cloud.dropped:
            out.print(f"{self.points}: {cloud.dropped:,} points without finite coordinates are left out")
        device = choose_device(self.device)
        weights = ("sam_checkpoint", "checkpoint", "siglip_checkpoint", "clip_checkpoint", "clip_model", "device")
        job = Prepare(self.data, self.segmenter, self.encoder, **{name: getattr(self, name) for name in weights})
        segmenter, encoder = job.make_segmenter(), job.make_encoder()
        rasterizer = choose_rasterizer("auto", device)
        started = time.perf_counter()
        with view_progress(len(rig), "lifting masks") as progress:
            lifted = scene_of_points(
                cloud, rig, segmenter, encoder, rasterizer, device=device, config=self.grouping, progress=progress
            )
        seconds = time.perf_counter() - started
        made = {
            "method": "points",
            "cloud": str(self.points),
            "seconds": round(seconds, 2),
            "segmenter": segmenter.name,
        }
        scene = as_scene(lifted, encoder, made)
        folder = self.output_dir / (self.data.stem if self.data.is_file() else self.data.resolve().name)
        folder = folder / "points" / time.strftime("%Y-%m-%d_%H%M%S")
        path = folder / FILE_NAME
        save_scene(path, scene)
        index = scene.require_index()
        out.print(
            f"{len(cloud):,} points, {index.num_anchors:,} anchors, {len(index.tree.instances(0.5)):,} objects, "
            f"{'with' if index.has_language else 'without'} language; {seconds:.1f} s"
        )
        out.print(f"scene      {path}")
        out.print(f"look       {command_line('ag2', 'view', '--load-config', path)}")
        out.print(f"name       {command_line('ag2', 'name', '--load-config', path)}")
