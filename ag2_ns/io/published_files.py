"""The mask and feature files of AG2aussian's published code, read and written.

`masks_sparse/<image>.pt` is a sparse bool tensor M x H x W, `clip_features/<image>.pt` a half tensor M x D, row i for
mask i. Both are loaded with `weights_only=True`: a file that is not a plain tensor is refused, not executed.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from jaxtyping import Float16
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.atomic import write_atomic
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore


def load_tensor(path: Path) -> Tensor:
    """Load one tensor from a `.pt` file without executing anything in it.

    Raises:
        UserError: the file is missing, damaged, or holds something else than a tensor.
    """
    try:
        with torch.sparse.check_sparse_tensor_invariants(True):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; export it anew, or leave its image out") from None
    except Exception as error:  # a file that is none raises whatever torch's and pickle's parsers run into
        reason = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise UserError(f"{path}: damaged or not a plain tensor file ({reason}); export it anew") from None
    if not isinstance(content, Tensor):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a tensor; save one tensor per file")
    return content


def read_masks_sparse(path: Path) -> MaskSet:
    """Read a sparse (or dense) M x H x W tensor of masks, in its order; scores are ones.

    Raises:
        UserError: not such a tensor.
    """
    tensor = load_tensor(path)
    if tensor.dim() != 3:
        raise UserError(f"{path}: expected masks M x H x W, found a tensor of shape {tuple(tensor.shape)}")
    m, height, width = tensor.shape
    if tensor.layout == torch.strided:
        return MaskSet.from_dense(tensor != 0)
    if tensor.layout != torch.sparse_coo:
        tensor = tensor.to_sparse_coo()
    indices, values = tensor._indices(), tensor._values()
    if indices.numel() and ((indices.min() < 0) or bool((indices.amax(1) >= torch.tensor([m, height, width])).any())):
        raise UserError(f"{path}: sparse indices outside the tensor's shape {tuple(tensor.shape)}; export it anew")
    mask, row, column = indices[:, values != 0]
    flat = torch.unique((mask * height + row) * width + column)
    mask = flat // (height * width)
    return MaskSet(height, width, flat - mask * (height * width), mask, torch.ones(m))


def write_masks_sparse(path: Path, masks: MaskSet) -> None:
    """Write masks as a sparse bool tensor M x H x W."""
    indices = torch.stack([masks.mask, masks.pixel // masks.width, masks.pixel % masks.width]).cpu()
    values = torch.ones(indices.shape[1], dtype=torch.bool)
    shape = (len(masks), masks.height, masks.width)
    with torch.sparse.check_sparse_tensor_invariants(True):
        tensor = torch.sparse_coo_tensor(indices, values, shape, is_coalesced=True)
    _save(path, tensor)


def read_clip_features(path: Path) -> Float16[Tensor, "M D"]:
    """Read one row of features per mask.

    Raises:
        UserError: not a floating M x D tensor.
    """
    tensor = load_tensor(path)
    if tensor.layout != torch.strided or tensor.dim() != 2 or not tensor.is_floating_point():
        raise UserError(f"{path}: expected features M x D, found {tensor.dtype} of shape {tuple(tensor.shape)}")
    return tensor.half()


def write_clip_features(path: Path, features: Float16[Tensor, "M D"]) -> None:
    """Write one row of features per mask as half."""
    _save(path, features.detach().cpu().half().contiguous().clone())


def export_pair(masks: MaskStore, features: FeatureStore | None, folder: Path) -> int:
    """Write a prepared scene as `folder/masks_sparse/*.pt` and `folder/clip_features/*.pt`. Returns the views written.

    Raises:
        UserError: a view is damaged or its features belong to other masks.
    """
    stems = masks.stems()
    for stem in stems:
        write_masks_sparse(folder / "masks_sparse" / f"{stem}.pt", masks.read(stem))
        if features is not None:
            rows = features.read(stem, masks.identity(stem))
            write_clip_features(folder / "clip_features" / f"{stem}.pt", rows)
    return len(stems)


def _save(path: Path, tensor: Tensor) -> None:
    """`torch.save`, atomically."""
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    write_atomic(path, buffer.getvalue())
