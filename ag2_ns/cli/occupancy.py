"""`ag2 occupancy`: what a trained `gausstr` run says is around the car in one frame."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.core.gaussians import Gaussians
    from ag2_ns.io.surround import Record
    from ag2_ns.plugin.surround_model import GaussTRPipeline


@dataclass
class Occupancy:
    """Predict the occupancy of one frame from its six pictures, and the Gaussians behind it.

    Writes labels.npz (layout of Occ3D), voxels.ply (coloured cubes), gaussians.ply (a splat), picture.png (the pictures
    beside the occupancy from above, and the truth where there is a label); with --scene also a folder to train on.
    """

    load_config: Path
    """config.yml of a run of ns-train gausstr, or its folder."""
    output_dir: Path
    """Where the files go."""
    _: KW_ONLY
    frame: str = "0"
    """DRIVE/TOKEN, TOKEN, or the position among the frames kept for evaluation."""
    data: Path | None = None
    """Other drives than those of the run."""
    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A word to tell voxels by, of the run's table; may be given several times. By default all that have a class."""
    scene: bool = False
    """Also write scene/, to train on with ns-train ag2aussian: the drive's pictures, poses, and Gaussians as points."""
    min_opacity: float = 0.2
    """Gaussians below are left out of gaussians.ply and scene/."""

    def main(self) -> None:
        """Predict and write."""
        import numpy as np

        from ag2_ns.core.console import console
        from ag2_ns.core.notice import view_progress
        from ag2_ns.eval.occupancy import score
        from ag2_ns.export.voxels import write_cubes
        from ag2_ns.io.atomic import require_writable, write_png
        from ag2_ns.io.occ3d import COLOURS, FREE, Labels, write_labels
        from ag2_ns.io.ply import write_gaussians
        from ag2_ns.io.surround import find_frame
        from ag2_ns.plugin.gausstr_run import open_gausstr
        from ag2_ns.rendering.occupancy import sheet

        require_writable(self.output_dir)
        pipeline = open_gausstr(self.load_config, self.data)
        manager = pipeline.datamanager
        if self.text:
            known = set(pipeline.model.prompts)
            unknown = [t for t in self.text if t not in known]
            if unknown:
                raise UserError(
                    f"--text '{unknown[0]}': not in the table of texts; choose among {', '.join(sorted(known))}"
                )
            keep = [k for k, name in enumerate(pipeline.model.prompts) if name in self.text or name == "sky"]
            pipeline.model.texts, pipeline.model.prompt_class = (
                pipeline.model.texts[keep], pipeline.model.prompt_class[keep])  # fmt: skip
        frames = list(manager.eval_frames) + [f for f in manager.train_frames if f not in manager.eval_frames]
        record = find_frame(frames, self.frame)
        predicted = pipeline.predict(record)
        truth = record.labels()
        grid = truth.grid if truth is not None else manager.grid
        found = pipeline.model.occupancy(predicted, 0, grid)
        semantics = found.semantics.cpu().numpy()
        everywhere = np.ones(grid.shape, bool)
        labels = Labels(
            semantics, truth.mask_camera if truth is not None else everywhere,
            truth.mask_lidar if truth is not None else everywhere, grid,
        )  # fmt: skip
        write_labels(self.output_dir / "labels.npz", labels)
        index = np.argwhere(semantics != FREE)
        write_cubes(self.output_dir / "voxels.ply", grid, index, COLOURS[semantics[semantics != FREE]])
        splat = self._splat(pipeline, record, predicted.gaussians(0).to("cpu"))
        write_gaussians(self.output_dir / "gaussians.ply", splat)
        write_png(self.output_dir / "picture.png", sheet(record, semantics, truth))
        out = console()
        out.print(f"{self.output_dir / 'labels.npz'}  {len(index)} of {grid.count} voxels full")
        out.print(f"{self.output_dir / 'voxels.ply'}")
        out.print(f"{self.output_dir / 'gaussians.ply'}  {len(splat)} Gaussians")
        if self.scene:
            drive = next(d for d in manager.drives if d.name == record.drive and record in d.frames)
            with view_progress(len(drive.frames), "frames") as done:
                self._scene(pipeline, list(drive.frames), done)
            out.print(f"{self.output_dir / 'scene'}  ns-train ag2aussian --data {self.output_dir / 'scene'}")
        out.print(f"{self.output_dir / 'picture.png'}")
        if truth is not None:
            s = score(semantics, truth)
            out.print(f"IoU {100 * s.iou:.1f}, mIoU(17) {100 * s.miou17:.1f}, mIoU(15) {100 * s.miou15:.1f}")

    def _splat(self, pipeline: GaussTRPipeline, record: Record, gaussians: Gaussians) -> Gaussians:
        from ag2_ns.feedforward.scene import coloured, solid
        from ag2_ns.io.surround import load_images

        views = [c.view(ego_motion=pipeline.datamanager.config.ego_motion) for c in record.cameras]
        splat = coloured(gaussians, load_images(record), views)
        return splat[solid(splat, self.min_opacity)]

    def _scene(self, pipeline: GaussTRPipeline, records: list[Record], done) -> None:
        import numpy as np
        import torch

        from ag2_ns.feedforward.scene import write_scene
        from ag2_ns.ops.sh import sh_to_rgb

        points, colours = [], []
        base = torch.linalg.inv(records[0].ego2global)
        for k, record in enumerate(records):
            splat = self._splat(pipeline, record, pipeline.predict(record).gaussians(0).to("cpu"))
            pose = base @ record.ego2global
            points.append(splat.means.double() @ pose[:3, :3].T + pose[:3, 3])
            colours.append((sh_to_rgb(splat.sh[:, 0]).clamp(0, 1) * 255).round())
            done(k + 1)
        points, colours = torch.cat(points), torch.cat(colours)
        if len(points) == 0:
            raise UserError(f"no Gaussian is as opaque as {self.min_opacity:g}; give a lower --min-opacity")
        write_scene(self.output_dir / "scene", records, points.numpy(), colours.numpy().astype(np.uint8))
