"""Training of SMAP: samples on disk, the published schedule, checkpoints that a stopped run goes on from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.feedforward.smap import Smap, SmapConfig
from ag2_ns.io.atomic import replacing, write_atomic

FILE_NAME = "smap.safetensors"


@dataclass(frozen=True)
class SmapSample:
    """One cloud with features, regions and the vector of the picture of each region."""

    xyz: Float[Tensor, "N 3"]
    feature: Float[Tensor, "N C"]
    masks: Bool[Tensor, "J N"]
    target: Float[Tensor, "J D"]

    def to(self, device: str) -> SmapSample:
        """The same on `device`."""
        return SmapSample(*(getattr(self, n).to(device) for n in ("xyz", "feature", "masks", "target")))


@dataclass(frozen=True)
class SmapTrainConfig:
    """The published schedule, but for the step count, which depends on the number of samples."""

    steps: int = 2000
    """Optimiser steps (published: 20 epochs over nuScenes, batch 8)."""
    batch: int = 2
    """Samples per step."""
    lr: float = 1e-4
    """Adam; what the published code uses from its second step on, though the paper says 1e-5."""
    power: float = 0.9
    """Of the polynomial decay."""
    cosine: float = 1.0
    """Weight of 1 - cosine beside the mean squared error; 0 as published. Words are read off directions."""
    turn: bool = True
    """Turn clouds about the vertical, scale them by 0.9 to 1.1 and shift them, in training only."""
    seed: int = 3407
    """Of samples, augmentation and initial weights."""
    save_every: int = 500
    """Steps between checkpoints."""


def write_sample(path: Path, sample: SmapSample) -> None:
    """Write one sample as .npz, atomically (features and targets in half precision)."""
    buffer = io.BytesIO()
    half = lambda t: t.cpu().half().numpy()  # noqa: E731
    np.savez_compressed(
        buffer,
        xyz=sample.xyz.cpu().float().numpy(),
        feature=half(sample.feature),
        masks=np.packbits(sample.masks.cpu().numpy(), axis=1),
        target=half(sample.target),
    )
    write_atomic(path, buffer.getvalue())


def read_sample(path: Path) -> SmapSample:
    """The inverse of `write_sample`.

    Raises:
        UserError: damaged, or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            xyz = torch.from_numpy(content["xyz"]).float()
            masks = torch.from_numpy(np.unpackbits(content["masks"], axis=1, count=len(xyz)).astype(bool))
            feature, target = (torch.from_numpy(content[n]).float() for n in ("feature", "target"))
    except Exception as error:  # numpy's and zip's parsers raise whatever they run into
        raise UserError(f"{path}: not a sample of SMAP: xyz, feature, masks, target ({first_line(error)})") from None
    if len(feature) != len(xyz) or len(masks) != len(target) or not bool(torch.isfinite(xyz).all()):
        raise UserError(f"{path}: its arrays do not belong together; write it anew")
    return SmapSample(xyz, feature, masks, target)


def train_smap(
    samples: Sequence[SmapSample] | Sequence[Path],
    config: SmapConfig,
    schedule: SmapTrainConfig = SmapTrainConfig(),
    *,
    folder: Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: Callable[[int, float], None] | None = None,
) -> Smap:
    """Train; with a folder, checkpoints are written there, and `resume` goes on from the last.

    Args:
        samples: in memory, or files that are read when they are needed.
        config: sizes.
        schedule: steps and rates.
        folder: where checkpoints and the model go.
        device: where to train.
        resume: go on from the folder's checkpoint.
        progress: called with the steps done and the last loss.

    Raises:
        UserError: no sample, a damaged one, or nothing to resume.
    """
    if not len(samples):
        raise UserError("there is no sample to train on; write some (.npz) first")
    torch.manual_seed(schedule.seed)
    model = Smap(config).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.lr)
    decay = lambda step: max(1 - step / max(schedule.steps, 1), 0.0) ** schedule.power  # noqa: E731
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, decay)
    first = _restore(folder, model, optimizer, rate, config) if resume else 0
    for step, numbers in enumerate(_batches(len(samples), schedule), 0):
        if step < first:
            continue
        if step >= schedule.steps:
            break
        generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + step)
        loss = torch.zeros((), device=device)
        for number in numbers:
            sample = samples[number]
            sample = (read_sample(sample) if isinstance(sample, Path) else sample).to(device)
            xyz = _augmented(sample.xyz, generator) if schedule.turn else sample.xyz
            loss = loss + _loss(model(sample.feature, xyz, sample.masks), sample, schedule.cosine) / len(numbers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
        if progress is not None:
            progress(step + 1, float(loss.detach()))
        if folder is not None and ((step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps):
            save_smap(folder, model)
            _checkpoint(folder, model, optimizer, rate, step + 1)
    return model.eval()


def _loss(out: Tensor, sample: SmapSample, cosine: float) -> Tensor:
    """Mean squared error, and 1 - cosine, over the masks that hold points."""
    there = sample.masks.any(1)
    out, target = out[there], sample.target[there].to(out)
    if not len(out):
        return out.sum()
    away = 1 - torch.nn.functional.cosine_similarity(out, target, dim=1).mean()
    return (out - target).square().mean() + cosine * away


def _batches(count: int, schedule: SmapTrainConfig) -> Iterator[list[int]]:
    """Numbers of samples, each epoch in another order; the same whatever step a run goes on from."""
    epoch = 0
    while True:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(schedule.seed + epoch)).tolist()
        for start in range(0, count, schedule.batch):
            yield order[start : start + schedule.batch]
        epoch += 1


def _augmented(xyz: Tensor, generator: torch.Generator) -> Tensor:
    a, scale = (
        float(torch.rand((), generator=generator)) * 2 * np.pi,
        0.9 + 0.2 * float(torch.rand((), generator=generator)),
    )
    turn = xyz.new_tensor([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return scale * xyz @ turn.T + 100 * torch.rand(3, generator=generator).to(xyz)


def save_smap(folder: Path, model: Smap) -> None:
    """Write the model and its sizes as one safetensors file, atomically."""
    from safetensors.torch import save_file

    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    with replacing(folder / FILE_NAME) as temporary:
        save_file(state, temporary, {"smap": json.dumps(model.config.as_dict())})


def load_smap(path: Path, device: str = "cpu") -> Smap:
    """Read a model; `path` is its file or folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file}: no such model; train one with `ag2 smap train`")
    try:
        with safe_open(file, "pt") as content:
            config = SmapConfig(**json.loads((content.metadata() or {})["smap"]))
            state = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        model = Smap(config)
        model.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file}: not a model of SMAP ({first_line(error)}); train it again") from None
    return model.eval().to(device)


def _checkpoint(folder: Path, model: Smap, optimizer, rate, step: int) -> None:
    content = {"step": step, "optimizer": optimizer.state_dict(), "rate": rate.state_dict()["last_epoch"]}
    content["model"] = model.state_dict()
    packed = io.BytesIO()
    torch.save(content, packed)
    write_atomic(folder / "checkpoint.pt", packed.getvalue())


def _restore(folder: Path | None, model: Smap, optimizer, rate, config: SmapConfig) -> int:
    path = None if folder is None else folder / "checkpoint.pt"
    if path is None or not path.is_file():
        raise UserError(f"{folder}: no checkpoint to go on from; leave --resume out")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        rate.last_epoch = content["rate"]
        for group, lr in zip(
            optimizer.param_groups, (base * rate.lr_lambdas[0](rate.last_epoch) for base in rate.base_lrs)
        ):
            group["lr"] = lr
        return int(content["step"])
    except Exception as error:  # a checkpoint of other sizes, or none at all
        raise UserError(f"{path}: cannot go on from it with these sizes ({first_line(error)})") from None
