"""Edits on disk: one small file beside the run, which no command ever writes into the checkpoint.

The file is a zip with `edits.json`, which people can read (unzip -p ag2_edits.npz edits.json), and the sets of
Gaussians as .npy arrays; numpy opens it as an .npz. It names the Gaussians that it was made for, so that edits of
another run are refused.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.core.fingerprint import Fingerprint
from ag2_ns.core.notice import notice
from ag2_ns.edit.history import DEPTH, History, Step
from ag2_ns.edit.operations import OPERATIONS, Edit, Members
from ag2_ns.io.atomic import locked, write_atomic

FILE_NAME = "ag2_edits.npz"
FORMAT = "ag2 edits"
VERSION = 1
_HEADER = "edits.json"


def edit_path(config: Path) -> Path:
    """The edit file of the run whose config.yml is given."""
    return Path(config).parent / FILE_NAME


def save_edits(path: Path, history: History, fingerprint: Fingerprint, base: tuple[Step, ...] | None = None) -> History:
    """Write the history, atomically; what another program has added to the file since it was read is kept.

    Args:
        path: the file.
        history: the edits.
        fingerprint: of the scene that they are for.
        base: the steps that the file had when this program last read or wrote it; by default those that `history` was
            read from.

    Returns:
        What was written.

    Raises:
        UserError: the folder cannot be written or the disk is full; or another program has changed the file so that
            neither can be kept without losing the other's edits.
        ValueError: an edit for another number of Gaussians.
    """
    path = Path(path)
    base = history.base if base is None else base
    with locked(path):
        others = load_edits(path, fingerprint) if base is not None and path.exists() else None
        if others is not None and others.done != base and not _continues(history, others, base):
            both = replace(history, base=base).onto(others)
            if both is None:
                raise UserError(
                    f"{path}: another program has changed these edits since they were read; look at them with "
                    "`ag2 edit --list`, and do yours again"
                )
            added = len(others.done) - len(base)
            notice(f"{path}: another program has added {added} step(s) meanwhile; yours come after them")
            history = both
        write_atomic(path, _packed(history, fingerprint))
    return replace(history, base=history.done)


def _continues(history: History, others: History, base: tuple[Step, ...]) -> bool:
    """Whether a history holds all that was added to the file: this program has written that itself."""
    return len(others.done) >= len(base) and history.done[: len(others.done)] == others.done


def _packed(history: History, fingerprint: Fingerprint) -> bytes:
    """The content of the file."""
    arrays: dict[str, np.ndarray] = {}
    for edit in history.edits:
        if edit.members.count != fingerprint.gaussians:
            raise ValueError(f"an edit of {edit.members.count} Gaussians in a run of {fingerprint.gaussians}")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "gaussians": fingerprint.gaussians,
        "anchors": fingerprint.anchors,
        "digest": fingerprint.digest,
        "fixed": history.fixed,
        "depth": history.depth,
        "done": [[_pack(edit, arrays) for edit in step] for step in history.done],
        "undone": [[_pack(edit, arrays) for edit in step] for step in history.undone],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        _add(file, _HEADER, json.dumps(header, indent=1).encode())
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=False)
            _add(file, f"{name}.npy", part.getvalue())
    return buffer.getvalue()


def load_edits(path: Path, fingerprint: Fingerprint) -> History:
    """Read a history; an empty one where there is no file.

    Raises:
        UserError: the file is damaged, of a newer format, or made for other Gaussians.
    """
    path = Path(path)
    if not path.exists():
        return History(base=())
    header, arrays = _read(path)
    if header.get("format") != FORMAT or not isinstance(header.get("version"), int):
        raise UserError(f"{path}: not a file of edits; remove it and edit again")
    if header["version"] > VERSION:
        raise UserError(
            f"{path}: format {header['version']} is newer than this program reads ({VERSION}); update ag2-ns"
        )
    theirs = (header.get("gaussians"), header.get("anchors"), header.get("digest"))
    if theirs != (fingerprint.gaussians, fingerprint.anchors, fingerprint.digest):
        raise UserError(
            f"{path}: these edits were made for another run or checkpoint ({theirs[0]} Gaussians, {theirs[1]} anchors; "
            f"this one has {fingerprint.gaussians} and {fingerprint.anchors}); load the one they were made for, or "
            "clear them with `ag2 edit --clear`"
        )
    try:
        steps = {
            name: tuple(tuple(_unpack(edit, arrays, fingerprint.gaussians) for edit in step) for step in header[name])
            for name in ("done", "undone")
        }
        fixed, depth = int(header["fixed"]), int(header.get("depth", DEPTH))
        return History(**steps, fixed=fixed, depth=depth, base=steps["done"])
    except UserError as error:
        raise UserError(f"{path}: holds an impossible edit ({error})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged ({type(error).__name__}: {error}); remove it with `ag2 edit --clear` and edit again"
        ) from error


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    # A fixed date: the same edits give the same bytes.
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    file.writestr(info, content)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(path) as file:
            header = json.loads(file.read(_HEADER))
            arrays = {}
            for name in file.namelist():
                if name.endswith(".npy"):
                    part = io.BytesIO(file.read(name))
                    arrays[name[:-4]] = np.lib.format.read_array(part, allow_pickle=False)
        if not isinstance(header, dict):
            raise ValueError("no header")
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read; change its permissions") from error
    except Exception as error:  # a damaged zip raises its own errors, zlib's, struct's, json's and numpy's
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: not a readable file of edits ({why}); remove it with `ag2 edit --clear` and edit again"
        ) from error
    return header, arrays


def _pack(edit: Edit, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """An edit as JSON; its sets and tables go to `arrays`."""
    out: dict[str, Any] = {"operation": edit.name, "description": edit.describe()}
    for f in fields(edit):
        value = getattr(edit, f.name)
        if isinstance(value, (Members, bytes)):
            name = f"{f.name}_{len(arrays)}"
            arrays[name] = np.frombuffer(value.bits if isinstance(value, Members) else value, np.uint8)
            out[f.name] = {"set" if isinstance(value, Members) else "table": name}
        else:
            out[f.name] = value
    return out


def _unpack(entry: dict[str, Any], arrays: dict[str, np.ndarray], count: int) -> Edit:
    kind = OPERATIONS.get(entry["operation"])
    if kind is None:
        raise ValueError(f"unknown operation {entry['operation']!r}")
    values: dict[str, Any] = {}
    for f in fields(kind):
        value = entry[f.name]
        if isinstance(value, dict):
            content = arrays[value.get("set", value.get("table"))]
            if content.dtype != np.uint8 or content.ndim != 1:
                raise ValueError(f"{f.name} is of type {content.dtype}")
            if "set" in value:
                if len(content) != -(-count // 8):
                    raise ValueError(f"{f.name} has {len(content)} bytes for {count} Gaussians")
                value = Members(content.tobytes(), count)
            else:
                value = content.tobytes()
        elif isinstance(value, list):
            value = tuple(float(v) for v in value)
        values[f.name] = value
    return kind(**values)
