"""Files that are either whole or absent, whatever interrupts the writer."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ag2_ns.core.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary file in the same folder to write to, which takes the place of `path` in one rename.

    Raises:
        UserError: the disk is full or the folder cannot be written (a file is in its way, for instance); nothing is
            left behind and an older file at `path` stays as it was.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~UMASK)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full; free some space and run the same command again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{path}: cannot be written; make its folder writable or name another one") from error
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another folder") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside, no other program that locks it writes `path`: what is read and written again is not written between.

    The folder is locked and nothing is left behind. Systems without such locks go on without.
    """
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):  # some network file systems have none
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` through a temporary file; raises as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_png(path: Path, pixels: UInt8[np.ndarray, "H W ..."]) -> None:
    """Write a picture; raises as `write_atomic` does."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", compress_level=1)  # 6, the default, takes five times as long
    write_atomic(path, content.getvalue())


def _umask() -> int:
    """The process's file creation mask, which can only be read by setting it: for all threads."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


UMASK = _umask()
"""Read once, when this module is loaded."""


@contextmanager
def writable(path: str | Path) -> Iterator[None]:
    """Turns the operating system's refusal to write a file into a line for the user."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({why}); choose another folder") from error


def require_writable(folder: Path) -> None:
    """Refuse a folder in which nothing can be written, before the work that is to be written there is done.

    Raises:
        UserError: it lies in a file, or in a folder that is not ours to write in.
    """
    there = next((p for p in (folder, *folder.absolute().parents) if p.exists()), None)
    if there is None or not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{folder}: cannot be written; name another folder")
