"""Selections as files."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ag2_ns.core.errors import MissingFile, UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.core.selection import Selection
from ag2_ns.io.atomic import write_atomic

SELECTION_FORMAT = 1
"""Version of selection files."""


def save_selection(path: Path, selection: Selection, fingerprint: Fingerprint) -> None:
    """Write a selection as .npz (atomically, no pickle): packed bits of anchors and Gaussians, and its description.

    Args:
        path: the file.
        selection: what to write.
        fingerprint: of the scene it selects in, so that another one refuses it.
    """
    meta = {
        "format": SELECTION_FORMAT,
        "label": selection.label,
        "score": selection.score,
        "nodes": list(selection.nodes),
        "level": selection.level,
        "anchors": len(selection.anchor_mask),
        "gaussians": len(selection.gaussian_mask),
        "digest": fingerprint.digest,
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
        anchor_mask=np.packbits(selection.anchor_mask.cpu().numpy()),
        gaussian_mask=np.packbits(selection.gaussian_mask.cpu().numpy()),
        anchor_score=selection.anchor_score.cpu().numpy().astype(np.float16),
    )
    write_atomic(path, buffer.getvalue())


def load_selection(path: Path, fingerprint: Fingerprint, device: torch.device | str = "cpu") -> Selection:
    """Read a selection of the scene with this fingerprint.

    Raises:
        UserError: no such file, not a selection, or one of another run.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            anchors, gaussians, score = file["anchor_mask"], file["gaussian_mask"], file["anchor_score"]
            version = meta["format"]
            made_in = (meta["anchors"], meta["gaussians"], meta["digest"])
            described = (meta["label"], meta["score"], tuple(meta["nodes"]), meta["level"])
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file; make a selection with `ag2 query`") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); make it again with `ag2 query`") from None
    except (ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        raise UserError(f"{path}: not a selection file; make it again with `ag2 query`") from None
    if version != SELECTION_FORMAT:
        raise UserError(
            f"{path}: written by another version (format {version}, this one reads {SELECTION_FORMAT}); make it again "
            "with `ag2 query`"
        )
    if made_in[:2] != (fingerprint.anchors, fingerprint.gaussians):
        raise UserError(
            f"{path}: selects among {made_in[1]} Gaussians, this scene has {fingerprint.gaussians}; "
            "make it again in this scene with `ag2 query`"
        )
    if made_in[2] != fingerprint.digest:
        raise UserError(
            f"{path}: selects in another scene, of as many Gaussians; make it again in this scene with `ag2 query`"
        )

    def unpack(bits: np.ndarray, count: int) -> Tensor:
        return torch.from_numpy(np.unpackbits(bits, count=count).astype(bool)).to(device)

    return Selection(
        torch.from_numpy(score.astype(np.float32)).to(device),
        unpack(anchors, made_in[0]),
        unpack(gaussians, made_in[1]),
        *described,
    )
