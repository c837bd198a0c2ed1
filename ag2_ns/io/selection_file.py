"""Selections as files."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.io.atomic import write_atomic

if TYPE_CHECKING:
    from ag2_ns.scene.scene_index import SceneIndex


SELECTION_FORMAT = 1
"""Version of selection files."""


def save_selection(path: Path, selection: Selection, index: SceneIndex | None = None) -> None:
    """Write a selection as .npz (atomically, no pickle): packed bits of anchors and Gaussians, and its description.

    Args:
        path: the file.
        selection: what to write.
        index: the scene it selects in; its fingerprint goes into the file, so that another run refuses it.
    """
    meta = {
        "format": SELECTION_FORMAT,
        "label": selection.label,
        "score": selection.score,
        "nodes": list(selection.nodes),
        "level": selection.level,
        "anchors": len(selection.anchor_mask),
        "gaussians": len(selection.gaussian_mask),
    }
    if index is not None:
        meta["digest"] = _digest(index)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
        anchor_mask=np.packbits(selection.anchor_mask.cpu().numpy()),
        gaussian_mask=np.packbits(selection.gaussian_mask.cpu().numpy()),
        anchor_score=selection.anchor_score.cpu().numpy().astype(np.float16),
    )
    write_atomic(path, buffer.getvalue())


def _digest(index: SceneIndex) -> str:
    """What tells this scene's anchors from those of another run; the same on every device."""
    from ag2_ns.core.fingerprint import Fingerprint

    return Fingerprint.of(index.num_gaussians, index.anchor_xyz).digest


def load_selection(path: Path, index: SceneIndex) -> Selection:
    """Read a selection of this scene.

    Raises:
        UserError: no such file, not a selection, or one of another run.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            anchors, gaussians, score = file["anchor_mask"], file["gaussian_mask"], file["anchor_score"]
            version = meta["format"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make a selection with `ag2 query`") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); make it again with `ag2 query`") from None
    except (ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        raise UserError(f"{path}: not a selection file; make it again with `ag2 query`") from None
    if version != SELECTION_FORMAT:
        raise UserError(
            f"{path}: written by another version (format {version}, this one reads {SELECTION_FORMAT}); make it again "
            "with `ag2 query`"
        )
    if (meta["anchors"], meta["gaussians"]) != (index.num_anchors, index.num_gaussians):
        raise UserError(
            f"{path}: selects among {meta['gaussians']} Gaussians, this run has {index.num_gaussians}; "
            "make it again on this run with `ag2 query`"
        )
    if meta.get("digest") not in (None, _digest(index)):  # files of before there was one have none
        raise UserError(
            f"{path}: selects in another run, of as many Gaussians; make it again on this run with `ag2 query`"
        )
    device = index.anchor_xyz.device

    def unpack(bits: np.ndarray, count: int) -> Tensor:
        return torch.from_numpy(np.unpackbits(bits, count=count).astype(bool)).to(device)

    return Selection(
        torch.from_numpy(score.astype(np.float32)).to(device),
        unpack(anchors, meta["anchors"]),
        unpack(gaussians, meta["gaussians"]),
        meta["label"],
        meta["score"],
        tuple(meta["nodes"]),
        meta["level"],
    )
