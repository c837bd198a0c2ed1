"""Training of a referring field on a frozen splat, and its file.

One step is one (view, sentence) pair: the anchors' responses are composited and compared with a mask; the features that
answer most are pulled towards the sentence and pushed from the other sentences about that view.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.errors import DamagedFile, MissingFile, UserError, first_line
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.io.atomic import replacing
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.splat.refer_field import (
    ReferField,
    ReferFieldConfig,
    contrast_loss,
    mask_loss,
    ratio_at,
)

FILE_NAME = "refer.safetensors"
"""Beside the scene."""


class WordVectors(Protocol):
    """A text model: `language.word_meaning.WordEncoder`."""

    width: int

    def tokens(self, texts: Sequence[str]) -> list[Float[Tensor, "L T"]]:
        """Vectors of the words of each text."""
        ...

    def padded(self, texts: Sequence[str]) -> tuple[Float[Tensor, "B L T"], Bool[Tensor, "B L"]]:
        """Texts as one batch with padding, and which tokens are none."""
        ...


@dataclass(frozen=True)
class Sample:
    """One sentence in one view, and what it means there."""

    view: View
    key: str
    """Of the view."""
    text: str
    thing: object
    """What it is about: sentences about the same thing are positives of each other."""
    mask: Bool[Tensor, "H W"]


def train_field(
    field: ReferField,
    samples: Sequence[Sample],
    words: WordVectors,
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    rasterizer: Rasterizer,
    *,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a field; returns the losses of its steps.

    Args:
        field: changed in place; on the device of the Gaussians.
        samples: what to train on.
        words: the text model.
        gaussians: the frozen scene.
        gaussian_anchor: the anchor of each Gaussian.
        rasterizer: a backend for their device.
        seed: of the order of the samples.
        progress: called with the steps done and the last loss.

    Raises:
        UserError: no samples.
    """
    if not samples:
        raise UserError("there is nothing to train on: no sentence has a mask in a training view")
    config, device = field.config, gaussians.device
    vectors, padded = _cached(words, device)
    by_view: dict[str, list[Sample]] = {}
    for sample in samples:
        by_view.setdefault(sample.key, []).append(sample)
    optimizer = torch.optim.Adam(field.parameter_groups(), eps=1e-15)
    generator = torch.Generator().manual_seed(seed)
    total = config.steps or config.passes * len(samples)
    losses: list[float] = []
    order: list[int] = []
    field.train()
    for step in range(total):
        order = order or torch.randperm(len(samples), generator=generator).tolist()
        sample = samples[order.pop()]
        response, attended = field(vectors(sample.text))
        logit = draw_response(response, gaussians, gaussian_anchor, sample.view, rasterizer)
        loss = mask_loss(logit, sample.mask.to(device))
        beside = by_view[sample.key]
        if config.contrast_weight and len({s.thing for s in beside}) > 1:
            texts = list(dict.fromkeys(s.text for s in beside))
            things = {s.text: s.thing for s in beside}
            embedded = _sentences(field, texts, vectors, padded)
            positive = torch.tensor([things[t] == sample.thing for t in texts], device=device)
            ratio = ratio_at(config, step)
            loss = loss + config.contrast_weight * contrast_loss(attended, response, embedded, positive, ratio, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if progress is not None:
            progress(step + 1, losses[-1])
    field.eval()
    return losses


def draw_response(
    response: Float[Tensor, " A"],
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    view: View,
    rasterizer: Rasterizer,
) -> Float[Tensor, "H W"]:
    """The logit of every pixel: responses composited without a background."""
    values = response[gaussian_anchor][:, None]
    g = gaussians
    return rasterizer.rasterize(g.means, g.quats, g.scales, g.opacities, values, view).values[..., 0]


def _cached(words: WordVectors, device: torch.device) -> tuple[Callable[[str], Tensor], Callable[..., Tensor]]:
    """Vectors of one text, and of several as a padded batch; the text model runs once for each."""

    @cache
    def vectors(text: str) -> Tensor:
        return words.tokens([text])[0].to(device)

    @cache
    def padded(*texts: str) -> Tensor:
        return words.padded(texts)[0].to(device)

    return vectors, padded


def _sentences(field: ReferField, texts: list[str], vectors, padded) -> Float[Tensor, "S D"]:
    if not field.config.pad_in_mean:
        return torch.stack([field.sentence(vectors(text)) for text in texts])
    return field.text(padded(*texts)[:, 1:]).mean(1)  # last tokens and padding stay in the mean, as published


def save_field(path: Path, field: ReferField, text_model: str, trained: dict) -> None:
    """Write a field: tensors, constants, the text model's folder name, and how it was trained.

    Raises:
        UserError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    header = {"config": asdict(field.config), "text_model": text_model, "words": field.text[0].in_features}
    state = {name: t.detach().cpu().contiguous() for name, t in field.state_dict().items()}
    with replacing(path) as temporary:
        save_file(state, temporary, {"refer": json.dumps(header | {"trained": trained})})


def load_field(path: Path, device: torch.device | str = "cpu") -> tuple[ReferField, str]:
    """Read a field and the text model that it was trained with.

    Raises:
        UserError: no such file, or not one of a referring field.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingFile(f"{path}: no referring field there; train one with `ag2 refer-train`")
    try:
        with safe_open(path, "pt", device="cpu") as content:
            header = json.loads((content.metadata() or {})["refer"])
            state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        field = ReferField(state["xyz"], int(header["words"]), ReferFieldConfig(**header["config"]))
        field.load_state_dict(state)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise DamagedFile(f"{path}: not a referring field ({first_line(error)}); train it again") from error
    return field.to(device).eval(), str(header["text_model"])
