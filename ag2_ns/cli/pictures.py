"""Numbers, contact sheet and video of a trained pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ag2_ns.cli.sheet import contact_sheet
from ag2_ns.errors import UserError

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline


def to_uint8(image: Float[Tensor, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A colour picture in [0, 1] as bytes."""
    return (image.clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()


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
def render_video(pipeline: Pipeline, path: Path, frames: int, fps: int = 24) -> None:
    """An H.264 flight through the held-out cameras, rgb beside feature."""
    import mediapy
    from nerfstudio.cameras.camera_paths import get_interpolated_camera_path
    from nerfstudio.cameras.cameras import Cameras
    from rich.progress import track

    cameras: Cameras = pipeline.datamanager.eval_dataset.cameras
    if len(cameras) < 2:
        cameras = pipeline.datamanager.train_dataset.cameras[: max(2, min(8, len(pipeline.datamanager.train_dataset)))]
    steps = max(2, -(-frames // max(1, len(cameras) - 1)))
    flight = get_interpolated_camera_path(cameras=cameras, steps=steps, order_poses=True)
    pictures = []
    for i in track(range(min(frames, len(flight))), description="rendering", transient=True):
        outputs = pipeline.model.get_outputs_for_camera(flight[i : i + 1])
        pictures.append(np.concatenate([to_uint8(outputs["rgb"]), to_uint8(outputs["feature"])], axis=1))
    # H.264 with 4:2:0 chroma needs even sides.
    height, width = (n - n % 2 for n in pictures[0].shape[:2])
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    mediapy.write_video(str(fresh.with_suffix(".mp4")), [p[:height, :width] for p in pictures], fps=fps, qp=20)
    fresh.with_suffix(".mp4").replace(path)
