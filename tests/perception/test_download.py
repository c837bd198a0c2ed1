from __future__ import annotations

import hashlib

import pytest
from file_server import Served, serve

from ag2_ns.core.errors import UserError
from ag2_ns.perception import download
from ag2_ns.perception.download import RemoteFile, fetch_file

CONTENT = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(download, "WAIT", 0.001)
    monkeypatch.setattr(download, "BLOCK", 1000)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def sha(content: bytes = CONTENT) -> str:
    return hashlib.sha256(content).hexdigest()


def file_of(address: str, **options) -> RemoteFile:
    return RemoteFile("weights.bin", f"{address}/w", **options)


def left(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_fetches_with_progress(tmp_path):
    seen = []
    with serve({"/w": Served(CONTENT)}) as address:
        path = fetch_file(
            file_of(address, size=len(CONTENT), sha256=sha()), tmp_path / "deep", lambda *a: seen.append(a)
        )
    assert path.read_bytes() == CONTENT
    assert left(tmp_path / "deep") == ["weights.bin"]
    assert seen[-1] == ("weights.bin", len(CONTENT), len(CONTENT)) and len(seen) > 50


def test_breaks_off_and_goes_on_where_it_stopped(tmp_path):
    served = Served(CONTENT, break_after=30_000)
    with serve({"/w": served}) as address:
        path = fetch_file(file_of(address, sha256=sha()), tmp_path)
    assert path.read_bytes() == CONTENT
    asked = [r for method, r in served.requests if method == "GET"]
    assert asked == ["", "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_the_next_call_goes_on(tmp_path):
    served = Served(CONTENT, break_after=30_000, breaks=1)
    with serve({"/w": served}) as address:
        served.status = 200

        def stop(name, there, total):
            if there >= 30_000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch_file(file_of(address), tmp_path, stop)
        assert left(tmp_path) == ["weights.bin.part", "weights.bin.part.json"]
        size = (tmp_path / "weights.bin.part").stat().st_size
        assert 29_000 <= size <= 30_000
        fetch_file(file_of(address), tmp_path)
        assert served.requests[-1] == ("GET", f"bytes={size}-")
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


def test_another_file_by_then_starts_anew(tmp_path):
    (tmp_path / "weights.bin.part").write_bytes(b"x" * 5000)
    (tmp_path / "weights.bin.part.json").write_text('["old", "", "7"]')
    served = Served(CONTENT)
    with serve({"/w": served}) as address:
        fetch_file(file_of(address), tmp_path)
    assert served.requests[-1] == ("GET", "")
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(tmp_path):
    served = Served(CONTENT, break_after=30_000, breaks=1, ranges=False)
    with serve({"/w": served}) as address:
        assert fetch_file(file_of(address, sha256=sha()), tmp_path).read_bytes() == CONTENT


def test_gives_up_when_nothing_more_comes(tmp_path):
    served = Served(CONTENT, break_after=0)
    with serve({"/w": served}) as address, pytest.raises(UserError, match="run the command again to go on"):
        fetch_file(file_of(address), tmp_path)
    assert sum(method == "GET" for method, _ in served.requests) == download.TRIES


def test_busy_for_a_while(tmp_path):
    with serve({"/w": Served(CONTENT, fails=3)}) as address:
        assert fetch_file(file_of(address), tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_keeps_nothing(tmp_path):
    with serve({"/w": Served(CONTENT)}) as address:
        with pytest.raises(UserError, match=r"checksum is .* nothing was kept") as error:
            fetch_file(file_of(address, sha256="0" * 64), tmp_path)
        assert "\n" not in str(error.value) and not (tmp_path / "weights.bin").exists()
        assert not (tmp_path / "weights.bin.part").exists()


def test_checksum_of_the_server_counts_where_none_is_known(tmp_path):
    with serve({"/w": Served(CONTENT, etag="ab" * 32)}) as address, pytest.raises(UserError, match="checksum"):
        fetch_file(file_of(address), tmp_path)
    blob = hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()
    with serve({"/w": Served(CONTENT, etag=blob)}) as address:
        fetch_file(file_of(address), tmp_path)
    with serve({"/w": Served(CONTENT, etag="cd" * 20)}) as address, pytest.raises(UserError, match="checksum"):
        fetch_file(RemoteFile("other.bin", f"{address}/w"), tmp_path)
    with serve({"/w": Served(CONTENT, etag="anything")}) as address:
        fetch_file(RemoteFile("third.bin", f"{address}/w"), tmp_path)


def test_another_size_than_known_is_refused_before_anything_is_read(tmp_path):
    served = Served(CONTENT)
    with serve({"/w": served}) as address, pytest.raises(UserError, match="offers 102,400 bytes where 5 are expected"):
        fetch_file(file_of(address, size=5), tmp_path)
    assert all(method == "HEAD" for method, _ in served.requests)


def test_lies_too_short(tmp_path):
    """Announces less than it has: the content then fails its checksum."""
    with (
        serve({"/w": Served(CONTENT, announce=len(CONTENT) - 500)}) as address,
        pytest.raises(UserError, match="checksum"),
    ):
        fetch_file(file_of(address), tmp_path)
    assert not (tmp_path / "weights.bin").exists()


def test_lies_too_long(tmp_path):
    """Announces more than it has: the end never comes."""
    served = Served(CONTENT, announce=len(CONTENT) + 500)
    with serve({"/w": served}) as address, pytest.raises(UserError, match="stopped after 102,400 of 102,900 bytes"):
        fetch_file(file_of(address), tmp_path)
    assert not (tmp_path / "weights.bin").exists()


def test_redirected_size_and_checksum(tmp_path):
    """As the model hub does: what is large lies elsewhere, and the redirection tells what it is."""
    with serve({"/real": Served(CONTENT, etag="unrelated")}) as other:
        for etag, good in ((sha(), True), ("0" * 64, False)):
            with serve({"/w": Served(CONTENT, etag=etag, redirect=f"{other}/real")}) as address:
                if good:
                    assert fetch_file(file_of(address), tmp_path).read_bytes() == CONTENT
                else:
                    with pytest.raises(UserError, match="checksum"):
                        fetch_file(RemoteFile("bad.bin", f"{address}/w"), tmp_path)


def test_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**6})())
    with serve({"/w": Served(CONTENT)}) as address, pytest.raises(UserError, match="make room, or set AG2_WEIGHTS"):
        fetch_file(file_of(address), tmp_path)


def test_nobody_there_and_no_folder(tmp_path):
    with pytest.raises(UserError, match="see whether this machine is online"):
        fetch_file(RemoteFile("w", "http://127.0.0.1:9/w"), tmp_path)
    (tmp_path / "file").write_text("")
    with serve({"/w": Served(CONTENT)}) as address, pytest.raises(UserError, match="cannot be written"):
        fetch_file(file_of(address), tmp_path / "file" / "deeper")
