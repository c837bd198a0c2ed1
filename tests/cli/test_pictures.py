"""Cameras, contact sheets and videos."""

import errno
import os
import sys

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.io.atomic import write_png
from ag2_ns.plugin import compat
from ag2_ns.plugin.pictures import camera_of
from ag2_ns.plugin.views import view_of
from ag2_ns.rendering.orbit import look_at
from ag2_ns.rendering.sheet import contact_sheet
from ag2_ns.rendering.video import frame_writer

BLACK = np.zeros((12, 16, 3), np.uint8)


@pytest.fixture
def full(monkeypatch):
    """A disk that has no room."""

    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize(
    "write",
    [lambda path: write_png(path, BLACK), lambda path: contact_sheet(path, [[BLACK, BLACK]], ["a", "b"], ["row"])],
)
def test_a_picture_is_whole_or_absent(write, tmp_path, full):
    with pytest.raises(UserError, match=r"p\.png: the disk is full"):
        write(tmp_path / "p.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["close", "add_image"])
def test_an_encoder_that_fails_is_one_line(method, tmp_path, monkeypatch):
    import mediapy

    compat.provide_ffmpeg()
    close = mediapy.VideoWriter.close

    def fails(self, *_):
        close(self)
        raise RuntimeError("Error writing 'v.mp4': [mp4] muxing\n[mp4] Error closing file: No space left on device")

    monkeypatch.setattr(mediapy.VideoWriter, method, fails)
    refusal = pytest.raises(UserError, match=r"v\.mp4: cannot be written \(No space left on device\)")
    with refusal as error, frame_writer(tmp_path / "v.mp4", 24) as write:
        write(BLACK)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_without_ffmpeg_the_remedy_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # importing it raises ImportError
    refusal = pytest.raises(UserError, match="pip install imageio-ffmpeg, or name a folder")
    with refusal as error, frame_writer(tmp_path / "v.mp4", 24) as write:
        write(BLACK)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_view_as_nerfstudio_takes_it_is_the_same_view():
    K = torch.tensor([[60.0, 0, 31], [0, 58, 25], [0, 0, 1]])
    view = look_at(torch.tensor([1.0, 2, 3]), torch.tensor([0.3, 0, 0]), torch.tensor([0.1, 0, 1]), K, (64, 48))
    again: View = view_of(camera_of(view))
    torch.testing.assert_close(again.viewmat, view.viewmat, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again.K, K)
    assert (again.width, again.height) == (64, 48)
