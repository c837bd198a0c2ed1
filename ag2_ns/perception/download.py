"""Files from their publishers, fetched without trusting the line.

A file grows as NAME.part and is renamed when its size and checksum are right, so a file that exists is whole. A
connection that breaks off is taken up again where it stopped, also by the next call, if the server still has the same
file. The checksum is the one written down here, or else the one that the publisher's server gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from ag2_ns.core.errors import UserError
from ag2_ns.io.atomic import write_atomic

BLOCK = 1 << 20
"""Bytes read at a time."""

TRIES = 5
"""Connections in a row that may bring nothing new before giving up."""

WAIT = 1.0
"""Seconds before the second try; doubled from one to the next."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""

SPARE = 1 << 28
"""Bytes that must stay free on the disk."""

Progress = Callable[[str, int, int | None], None]
"""File, bytes there, bytes in all (None where the server does not say)."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a publisher."""

    name: str
    """What it is called on disk."""
    url: str
    size: int | None = None
    """Bytes, where known beforehand."""
    sha256: str | None = None
    """In hexadecimal, where known beforehand."""
    optional: bool = False
    """Not every model of this kind has it."""


def fetch_file(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch one file: whole, checked, or not at all.

    Raises:
        UserError: no connection, a size or checksum other than expected, no room on the disk, or a folder that cannot
            be written.
    """
    url, target = _address(file.url), folder / file.name
    part, note = folder / f"{file.name}.part", folder / f"{file.name}.part.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _ask(url, file)
        size, digest = file.size or found.size, file.sha256 or found.sha256
        if file.size is not None and found.size is not None and file.size != found.size:
            raise UserError(
                f"{file.name}: its publisher offers {found.size:,} bytes where {file.size:,} are expected; nothing was "
                "fetched"
            )
        started = _read_note(note)
        if part.exists() and (started is None or started != found.version):
            part.unlink()
        write_atomic(note, json.dumps(found.version).encode())
        room = shutil.disk_usage(folder).free + (part.stat().st_size if part.exists() else 0)
        if size is not None and room < size + SPARE:
            raise UserError(
                f"{folder}: {room / 1e9:.1f} GB are free where {file.name} takes {size / 1e9:.1f}; make room, or set "
                "AG2_WEIGHTS to another folder"
            )
        _receive(url, file, part, size, progress)
        _check(file, part, size, digest, found.blob)
        os.replace(part, target)
        note.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); set AG2_WEIGHTS to another folder"
        ) from None
    return target


class NotThere(Exception):
    """The server does not have the file."""


class Refused(Exception):
    """The server does not give the file to us."""


@dataclass(frozen=True)
class _Offer:
    """What a server says of a file."""

    size: int | None
    sha256: str | None
    blob: str | None
    """SHA-1 as git computes it, which the hub gives of small files."""
    version: list[str]
    """Changes when the file does."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Answers with the redirection itself: the hub tells size and checksum there, not where it leads."""

    def redirect_request(self, *args: object) -> None:
        """Do not follow."""
        return None


def _ask(url: str, file: RemoteFile) -> _Offer:
    """What the server says of the file, asked without reading it."""
    opener = urllib.request.build_opener(_Stay)
    headers = _with_retries(file, lambda: _headers(opener, url))
    linked = headers.get("X-Linked-Size")
    size = linked or (headers.get("Content-Length") if "Location" not in headers else None)
    tag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
    sha256 = tag.lower() if re.fullmatch(r"[0-9a-fA-F]{64}", tag) else None
    blob = tag.lower() if re.fullmatch(r"[0-9a-fA-F]{40}", tag) else None
    number = int(size) if size and size.isdigit() else None
    return _Offer(number, sha256, blob, [tag, headers.get("Last-Modified") or "", str(number)])


def _headers(opener: urllib.request.OpenerDirector, url: str) -> dict[str, str]:
    try:
        with opener.open(_request(url, "HEAD"), timeout=TIMEOUT) as answer:
            return _Headers(answer.headers.items())
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            return _Headers(error.headers.items())
        raise


class _Headers(dict):
    """Headers, whose names have no case."""

    def __init__(self, items: object) -> None:
        super().__init__((k.lower(), v) for k, v in items)

    def get(self, name: str, default: str | None = None) -> str | None:
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


def _receive(url: str, file: RemoteFile, part: Path, size: int | None, progress: Progress | None) -> None:
    """Append to the part until it is whole, over as many connections as it takes.

    Raises:
        UserError: the server sends more than it announced, or nothing more.
    """
    idle, wait, furthest = 0, WAIT, part.stat().st_size if part.exists() else 0
    while True:
        there = part.stat().st_size if part.exists() else 0
        if size is not None and there >= size > 0:
            return
        why = "the connection broke off"
        try:
            request = _request(url, "GET", {"Range": f"bytes={there}-"} if there else {})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                if there and answer.status != 206:  # the server starts from the beginning
                    there = 0
                with open(part, "ab" if there else "wb") as out:
                    announced = answer.headers.get("Content-Length")
                    total = size if size is not None else there + int(announced) if announced else None
                    while block := answer.read(BLOCK):
                        there += len(block)
                        if total is not None and there > total:
                            raise UserError(
                                f"{file.name}: its publisher's server sends more than the {total:,} bytes that it "
                                "announced; nothing was kept"
                            )
                        out.write(block)
                        if progress is not None:
                            progress(file.name, there, total)
            if total is None or there == total:
                return
        except UserError:
            part.unlink(missing_ok=True)
            raise
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is there is no beginning of the file
                part.unlink(missing_ok=True)
            else:
                _raise_final(error)
            why = f"HTTP {error.code}"
        except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            why = str(getattr(error, "reason", error) or type(error).__name__)
        reached = part.stat().st_size if part.exists() else 0
        idle, furthest = (0, reached) if reached > furthest else (idle + 1, furthest)
        if idle >= TRIES:
            raise UserError(
                f"{file.name}: stopped after {furthest:,} of {size or 0:,} bytes ({why}); run the command again to "
                "go on"
            )
        time.sleep(wait if idle else 0)
        wait = wait * 2 if idle else WAIT


def _check(file: RemoteFile, part: Path, size: int | None, sha256: str | None, blob: str | None) -> None:
    """Compare size and checksum.

    Raises:
        UserError: they differ; the part is removed.
    """
    there = part.stat().st_size
    if size is not None and there != size:
        part.unlink()
        raise UserError(f"{file.name}: {there:,} bytes came where {size:,} were expected; nothing was kept, try again")
    wanted = sha256 or blob
    if wanted is None:
        return
    digest = hashlib.sha256() if sha256 else hashlib.sha1(f"blob {there}\0".encode())
    with open(part, "rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != wanted:
        part.unlink()
        raise UserError(
            f"{file.name}: its checksum is {digest.hexdigest()[:16]}… where {wanted[:16]}… is expected; nothing was "
            "kept: fetch it again, and do not use it if that happens twice"
        )


def _with_retries(file: RemoteFile, ask: Callable[[], dict[str, str]]) -> dict[str, str]:
    wait = WAIT
    for attempt in range(TRIES):
        try:
            return ask()
        except urllib.error.HTTPError as error:
            _raise_final(error)
            why = f"HTTP {error.code}"
        except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            why = str(getattr(error, "reason", error) or type(error).__name__)
        if attempt < TRIES - 1:
            time.sleep(wait)
            wait *= 2
    raise UserError(f"{file.name}: its publisher's server does not answer ({why}); see whether this machine is online")


def _raise_final(error: urllib.error.HTTPError) -> None:
    """Raise where asking again would not help."""
    if error.code in (404, 410):
        raise NotThere from None
    if error.code in (401, 403):
        raise Refused(f"its publisher refuses it (HTTP {error.code})") from None


def _request(url: str, method: str, headers: dict[str, str] | None = None) -> urllib.request.Request:
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "ag2-ns", **(headers or {})})
    # The hub packs small files unless told not to, and then tells another length.
    request.add_header("Accept-Encoding", "identity")
    token = os.environ.get("HF_TOKEN")
    if token and url.startswith(_endpoint()):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _address(url: str) -> str:
    """The full address; the hub's is its client's, so that a mirror set there holds here, too."""
    if not url.startswith("hub:"):
        return url
    repository, _, name = url.removeprefix("hub:").rpartition("/")
    return f"{_endpoint()}/{repository}/resolve/main/{name}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def _read_note(path: Path) -> list[str] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
