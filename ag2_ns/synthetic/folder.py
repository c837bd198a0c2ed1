"""The folder that an example scene is written to: it appears complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ag2_ns.core.errors import UserError


def check_new(out: Path, mark: Path, overwrite: bool) -> None:
    """Refuse a folder that must not be replaced: only one that holds `mark` may be, and only with `overwrite`."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a file is in the way; name another folder or remove it.")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise UserError(f"{out}: the folder is not empty; name another one or add --overwrite.")
        if not (out / mark).is_file():
            raise UserError(f"{out}: --overwrite only replaces an example scene, and this folder holds none ({mark}).")


@contextmanager
def in_place_of(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block succeeds and vanishes when it fails."""
    out = Path(os.path.abspath(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        new = out.parent / f".{out.name}.{os.getpid()}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
    except OSError as e:
        raise UserError(f"{out}: cannot make the folder ({e.strerror}); name another one.") from e
    old = out.parent / f".{out.name}.{os.getpid()}.old"
    try:
        yield new
        if out.exists():
            os.replace(out, old)
        os.replace(new, out)
    except OSError as e:
        raise UserError(f"{out}: cannot write the scene ({e.strerror}); free some space or name another folder.") from e
    finally:
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
