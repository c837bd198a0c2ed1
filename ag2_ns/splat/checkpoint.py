"""Loading checkpoints whose tensors differ in length from a freshly built model's."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ag2_ns.core.errors import UserError


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the last step that nerfstudio left in `folder`, or None."""
    found = [p for p in folder.glob("step-*.ckpt") if p.stem[5:].isdigit()]
    return max(found, key=lambda p: int(p.stem[5:]), default=None)


def refuse_truncated(path: Path) -> None:
    """See whether a checkpoint is whole, at the cost of reading its end.

    Raises:
        UserError: it does not exist, or was cut short while it was written or copied.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; name the folder nerfstudio_models of a run")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: this checkpoint is truncated or none at all; delete it to use the one before, or train again"
        )


def refuse_broken_resume(folder: Path | None, step: int | None, file: Path | None) -> None:
    """See whether what a training shall go on from is there and whole.

    Args:
        folder: nerfstudio's --load-dir.
        step: --load-step; by default the newest in the folder.
        file: --load-checkpoint.

    Raises:
        UserError: it is not.
    """
    if folder is not None:
        newest = newest_checkpoint(folder)
        if newest is None:
            raise UserError(f"{folder}: no checkpoint there; --load-dir takes a run's nerfstudio_models")
        refuse_truncated(newest if step is None else folder / f"step-{step:09d}.ckpt")
    if file is not None:
        refuse_truncated(file)


class TensorStore(nn.Module):
    """Named tensors of any shape that travel with the checkpoint: graph, tree, language, edits.

    Loading takes whatever names and shapes the checkpoint holds, so nothing needs to be known in advance, and
    leaves them on the checkpoint's device.
    """

    def set(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the contents."""
        for name in list(self._buffers):
            del self._buffers[name]
        for name, value in tensors.items():
            self.register_buffer(name.replace(".", "__"), value)

    def get(self) -> dict[str, Tensor]:
        """The contents, by the names they were set with."""
        return {name.replace("__", "."): value for name, value in self._buffers.items() if value is not None}

    def __len__(self) -> int:
        return len(self._buffers)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        mine = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        if not mine:  # nerfstudio loads the pipeline once more without the model's tensors
            return
        self.set({k: v.clone() for k, v in mine.items()})


def fit_to(module: nn.Module, state: Mapping[str, Tensor], device: torch.device) -> None:
    """Give every parameter and buffer of `module` the shape that `state` holds for it.

    Raises:
        UserError: a key is missing, or a tensor has another number of dimensions or another width than the model's.
    """
    missing = [k for k in module.state_dict() if k not in state]
    if missing:
        raise UserError(
            f"checkpoint lacks {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}: it is truncated or of "
            "another method or version; train again, or load the run with the method that wrote it"
        )
    for name, value in state.items():
        owner_name, _, leaf = name.rpartition(".")
        try:
            owner = module.get_submodule(owner_name)
        except AttributeError:
            continue
        if isinstance(owner, TensorStore):
            continue
        current = getattr(owner, leaf, None) if not isinstance(owner, nn.ParameterDict) else owner[leaf]
        if not torch.is_tensor(current) or current.shape == value.shape:
            continue
        if current.dim() != value.dim() or current.shape[1:] != value.shape[1:]:
            raise UserError(
                f"checkpoint tensor {name} is {tuple(value.shape)} where this configuration needs "
                f"{tuple(current.shape)}; load the run with the config.yml written beside it"
            )
        fresh = torch.zeros(value.shape, dtype=current.dtype, device=device)
        if isinstance(current, nn.Parameter):
            fresh = nn.Parameter(fresh)
            if isinstance(owner, nn.ParameterDict):
                owner[leaf] = fresh
                continue
        setattr(owner, leaf, fresh)
