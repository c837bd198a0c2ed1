"""In which frame a splat from elsewhere lies: it is drawn in each that exists, and compared with the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.export.frame import world_frame
from ag2_ns.io.splat import doubts, read_splat
from ag2_ns.ops.similarity import Similarity
from ag2_ns.plugin.dataparser import FILE_FRAME, OFFSET
from ag2_ns.plugin.views import view_of
from ag2_ns.rendering import render

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

FRAMES = {
    "run": "nerfstudio's normalised frame",
    "world": "the capture's own, as COLMAP has it",
    "file": "that of transforms.json, before its applied_transform is undone",
}
"""The frames that splats of other programs lie in."""

VIEWS = 4
"""Views that are compared."""

MARGIN = 1.0
"""How much better (dB) the views must look in one frame than in any other."""

SAME = 0.01
"""Frames that move the Gaussians by less than this share of the extent need not be told apart."""

GAIN = 2.0
"""How much closer (dB) to the pictures a splat of them must come than one colour, the mean of each picture: by 4 dB
after 600 steps of training on a CPU, by 10 and more when trained; a splat in a wrong frame stays below 0."""

AHEAD = 0.75
"""Share of the views in which it must be closer."""


@dataclass(frozen=True)
class Fit:
    """How much a splat looks like the pictures."""

    psnr: float
    """dB, over the views together."""
    plain: float
    """The same of pictures that have one colour each, their mean."""
    ahead: float
    """Share of the views that look more like the splat than like one colour."""

    @property
    def convincing(self) -> bool:
        """Whether it shows what the pictures show."""
        return self.psnr >= self.plain + GAIN and self.ahead >= AHEAD


@torch.no_grad()
def fit_of(gaussians: Gaussians, pipeline: Any) -> Fit:
    """Compare a splat in the run's frame with a few training views."""
    manager, model = pipeline.datamanager, pipeline.model
    batches, cameras = manager.cached_train, manager.train_dataset.cameras.to(model.device)
    chosen = torch.linspace(0, len(batches) - 1, min(VIEWS, len(batches))).round().long().tolist()
    drawn, plain = [], []
    on_device = gaussians.to(model.device)
    for i in chosen:
        out = render(on_device, view_of(cameras[i : i + 1]), model.backend(), depth=False)
        target = model.get_gt_img(batches[i]["image"])[..., :3]
        drawn.append(float((out.rgb.clamp(0, 1) - target).square().mean()))
        plain.append(float((target - target.mean((0, 1))).square().mean()))
    decibel = lambda errors: float(-10 * torch.tensor(errors).mean().clamp(min=1e-12).log10())  # noqa: E731
    ahead = sum(a < b for a, b in zip(drawn, plain)) / len(chosen)
    return Fit(decibel(drawn), decibel(plain), ahead)


def candidates(path: Path, outputs: DataparserOutputs) -> dict[str, Gaussians]:
    """A splat file in the run's frame, for each frame that it may lie in.

    Args:
        path: the file.
        outputs: of the dataparser of the scene.

    Raises:
        UserError: the file cannot be read.
    """
    own = read_splat(path)
    metadata = outputs.metadata or {}
    offset = torch.as_tensor(metadata.get(OFFSET, torch.zeros(3)), dtype=torch.double)
    found = {"run": own}
    transforms = {"world": (outputs.dataparser_transform, float(outputs.dataparser_scale))}
    if metadata.get(FILE_FRAME) is not None:
        transforms["file"] = metadata[FILE_FRAME]
    for name, (transform, scale) in transforms.items():
        to_run = world_frame(transform, scale).inverse()
        # Positions of surveys lose their precision unless they are centred while they are read.
        centre = to_run.inverse().translation if offset.any() else torch.zeros(3, dtype=torch.double)
        near = Similarity(to_run.rotation, to_run.scale, to_run.points(centre[None])[0])
        found[name] = near.gaussians(read_splat(path, tuple(centre.tolist())) if offset.any() else own)
    return found


def in_run_frame(path: Path, data: Path, frame: str, pipeline: Any, say: Any) -> Gaussians:
    """The Gaussians of a splat file in the run's frame.

    Args:
        path: the file.
        data: the scene, for messages.
        frame: where it lies: a key of `FRAMES`, or auto.
        pipeline: of the scene.
        say: tells what was found.

    Raises:
        UserError: the file cannot be read, the scene has no such frame, or the splat looks like the pictures in none,
            or in several.
    """
    found = candidates(path, pipeline.datamanager.train_dataparser_outputs)
    if frame != "auto":
        if frame not in found:
            raise UserError(f"{path}: {data} has no frame of its own beside run and world; give --frame world")
        fit = fit_of(found[frame], pipeline)
        unlike = "" if fit.convincing else "; that does not look like the pictures"
        say(f"{path}: taken to lie in the {frame} frame (PSNR {fit.psnr:.1f} dB, one colour {fit.plain:.1f}){unlike}")
        return found[frame]
    fits = {name: fit_of(gaussians, pipeline) for name, gaussians in found.items()}
    best = max(fits, key=lambda name: fits[name].psnr)
    said = ", ".join(f"{name} {fit.psnr:.1f}" for name, fit in fits.items())
    if not fits[best].convincing:
        doubt = doubts(read_splat(path))
        why = f"; {doubt}: export it with another program" if doubt else ""
        raise UserError(
            f"{path}: looks like the pictures of {data} in no frame (PSNR in dB: {said}; one colour per picture "
            f"{fits[best].plain:.1f}){why or '; name the scene that it was made from with --data'}"
        )
    rivals = _rivals(found, fits, best, float(pipeline.model.extent))
    if rivals:
        raise UserError(
            f"{path}: looks like the pictures of {data} in several frames (PSNR in dB: {said}); say where it lies with "
            f"--frame {best} or --frame {rivals[0]}"
        )
    say(f"{path}: lies in the {best} frame (PSNR in dB: {said}; one colour per picture {fits[best].plain:.1f})")
    return found[best]


def _rivals(found: Mapping[str, Gaussians], fits: Mapping[str, Fit], best: str, extent: float) -> list[str]:
    """Frames in which a splat looks as good as in the best, and lies elsewhere."""
    out = []
    for name, gaussians in found.items():
        close = name != best and fits[best].psnr - fits[name].psnr < MARGIN
        if close and float((gaussians.means - found[best].means).norm(dim=-1).median()) > SAME * extent:
            out.append(name)
    return out
