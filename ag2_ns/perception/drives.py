"""Depth and patch features for every picture of some drives, with resume: what is there and whole is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from ag2_ns.core.errors import UserError
from ag2_ns.io.atomic import write_atomic
from ag2_ns.io.surround import Camera, Drive, Record, load_images
from ag2_ns.io.text_table import PROMPTS
from ag2_ns.perception.patches import PatchEncoder

SETTINGS = "made_by.json"
"""In the folders of features and depth: which encoder made them."""


class DepthSource(Protocol):
    """Metric depth of a picture."""

    settings: dict

    def depth(self, image: UInt8[np.ndarray, "H W 3"], record: Record, camera: Camera) -> Float[np.ndarray, "H W"]:
        """Metres along the camera's axis."""
        ...


@dataclass
class Prepared:
    """What was done."""

    depth: int = 0
    features: int = 0
    kept: int = 0


def prepare_drives(
    drives: Sequence[Drive],
    encoder: PatchEncoder | None,
    depth: DepthSource | None,
    *,
    overwrite: bool = False,
    done: Callable[[int], None] = lambda count: None,
) -> Prepared:
    """Make what is missing.

    Args:
        drives: whose.
        encoder: of patches; None leaves features alone.
        depth: of pictures; None leaves depth alone.
        overwrite: make everything anew.
        done: called with the number of frames finished.

    Raises:
        UserError: a picture cannot be read, or features of another encoder are there.
    """
    result, finished = Prepared(), 0
    for drive in drives:
        for kind, maker in (("features", encoder), ("depth", depth)):
            if maker is not None:
                _claim(drive.folder / kind, maker.settings, overwrite)
        for record in drive.frames:
            wanted = {
                c.name: [k for k, m in (("features", encoder), ("depth", depth))
                         if m is not None and (overwrite or record.file(k, c) is None)]
                for c in record.cameras
            }  # fmt: skip
            if any(wanted.values()):
                for camera, image in zip(record.cameras, load_images(record)):
                    for kind in wanted[camera.name]:
                        if kind == "depth":
                            _save(record.target(kind, camera), depth.depth(image, record, camera).astype(np.float32))
                            result.depth += 1
                        else:
                            _save(record.target(kind, camera), encoder.patches(image).numpy().astype(np.float16))
                            result.features += 1
            result.kept += sum(not kinds for kinds in wanted.values())
            finished += 1
            done(finished)
    return result


def write_texts(path: Path, encoder: PatchEncoder) -> None:
    """Write the prompts' features as JSON.

    Raises:
        UserError: the encoder has no weights for texts.
    """
    table = encoder.texts(PROMPTS)
    content = {name: [round(v, 6) for v in row] for name, row in zip(PROMPTS, table.tolist())}
    write_atomic(path, json.dumps(content).encode())


def _claim(folder: Path, settings: dict, overwrite: bool) -> None:
    """Say what makes a folder's files, or refuse to mix them with another maker's."""
    path = folder / SETTINGS
    if path.is_file() and not overwrite:
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            there = None
        if there != settings:
            raise UserError(f"{folder}: made by other settings; add --overwrite to make all anew, or move it away")
    write_atomic(path, (json.dumps(settings, indent=1) + "\n").encode())


def _save(path: Path, values: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, values)
    write_atomic(path, content.getvalue())
