"""Numbers, contact sheet and video of a trained pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.rendering.overlay import to_uint8
from ag2_ns.rendering.sheet import contact_sheet

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from ag2_ns.core.view import View


def depth_colors(depth: Float[Tensor, "H W 1"]) -> Float[Tensor, "H W 3"]:
    """Depth as colours, near to far between its 2nd and 98th percentile."""
    from matplotlib import colormaps

    flat = depth.flatten().cpu()
    low, high = torch.quantile(flat[:: max(1, len(flat) // 100_000)], torch.tensor([0.02, 0.98])).tolist()
    scaled = ((depth.squeeze(-1).cpu() - low) / max(high - low, 1e-9)).clamp(0, 1).numpy()
    return torch.from_numpy(colormaps["turbo"](scaled)[..., :3]).float()


@torch.no_grad()
def evaluate_and_draw(pipeline: Pipeline, sheet: Path, rows: int = 5) -> dict[str, float]:
    """Mean image metrics over the held-out views, and a contact sheet of `rows` of them.

    Raises:
        UserError: the scene has no held-out view.
    """
    from rich.progress import track

    pipeline.eval()
    loader = pipeline.datamanager.fixed_indices_eval_dataloader
    if not loader:
        raise UserError("no held-out views to evaluate: use more images or a smaller --eval-interval")
    shown = set(np.linspace(0, len(loader) - 1, min(rows, len(loader))).round().astype(int).tolist())
    sums: dict[str, list[float]] = {}
    pictures, labels = [], []
    for i, (camera, batch) in enumerate(track(loader, description="evaluating", transient=True)):
        outputs = pipeline.model.get_outputs_for_camera(camera)
        metrics, images = pipeline.model.get_image_metrics_and_images(outputs, batch)
        for name, value in metrics.items():
            sums.setdefault(name, []).append(value)
        if i in shown:
            truth = images["img"][:, : outputs["rgb"].shape[1]]
            pictures.append(
                [to_uint8(p) for p in (outputs["rgb"], truth, outputs["feature"], depth_colors(outputs["depth"]))]
            )
            name = pipeline.datamanager.eval_dataset.image_filenames[i].name
            labels.append(f"{name}   PSNR {metrics['psnr']:.2f} dB")
    contact_sheet(sheet, pictures, ["rgb", "ground truth", "feature", "depth"], labels)
    results = {name: float(np.mean(values)) for name, values in sums.items()}
    results["held-out views"] = float(len(loader))
    results["gaussians"] = float(pipeline.model.num_points)
    results["anchors"] = float(pipeline.model.anchor_xyz.shape[0])
    return results


@torch.no_grad()
def render_video(pipeline: Pipeline, path: Path, frames: int, fps: float = 24.0) -> None:
    """An H.264 flight along the capture, rgb beside feature.

    Raises:
        UserError: fewer than two cameras, or the file cannot be written.
    """
    from rich.progress import track

    from ag2_ns.rendering.flight import flight, in_order
    from ag2_ns.rendering.video import frame_writer

    views, _ = flight(in_order([v.to("cpu") for v in pipeline.live.scene().views]), frames)
    with frame_writer(path, fps) as write:
        for view in track(views, description="rendering", transient=True):
            outputs = pipeline.model.get_outputs_for_camera(camera_of(view))
            write(np.concatenate([to_uint8(outputs["rgb"]), to_uint8(outputs["feature"])], axis=1))


def camera_of(view: View) -> Cameras:
    """A view as nerfstudio's models take it."""
    from nerfstudio.cameras.cameras import Cameras

    pose = torch.linalg.inv(view.viewmat)[None, :3] * torch.tensor([1.0, -1.0, -1.0, 1.0])  # y up, z backward
    (fx, _, cx), (_, fy, cy) = view.K[:2].tolist()
    return Cameras(pose, fx, fy, cx, cy, view.width, view.height)
