"""Pictures of evaluations, written beside training."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import record_writer

from ag2_ns.ops.checksum import masked_crc32c
from ag2_ns.plugin.events import PictureWriter, writer


@pytest.fixture
def board(tmp_path, monkeypatch):
    made = writer.TensorboardWriter(tmp_path)
    monkeypatch.setattr(writer, "EVENT_WRITERS", [made])
    monkeypatch.setattr(writer, "EVENT_STORAGE", [])
    monkeypatch.setattr(record_writer, "masked_crc32c", record_writer.masked_crc32c)
    return made


def test_pictures_are_written_meanwhile_and_the_rest_is_left(board, tmp_path):
    picture = torch.rand(12, 20, 3)
    writer.put_image("Eval Images/img", picture, step=500)
    writer.put_scalar("Eval PSNR", 30.0, step=500)
    pictures = PictureWriter()
    pictures.take()
    assert [event["name"] for event in writer.EVENT_STORAGE] == ["Eval PSNR"]
    pictures.wait()
    writer.write_out_storage()
    board.tb_writer.flush()
    assert record_writer.masked_crc32c is masked_crc32c
    found = EventAccumulator(str(tmp_path)).Reload()
    (image,) = found.Images("Eval Images/img")
    assert image.step == 500 and found.Scalars("Eval PSNR")[0].value == 30
    shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
    assert np.abs(shown / 255 - picture.numpy()).max() < 1 / 255


def test_other_writers_get_their_events_in_order(board, monkeypatch):
    monkeypatch.setattr(writer, "EVENT_WRITERS", [board, object()])
    writer.put_image("img", torch.rand(4, 4, 3), step=1)
    PictureWriter().take()
    assert len(writer.EVENT_STORAGE) == 1


def test_a_failure_is_told(board, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(board, "write_image", full)
    writer.put_image("img", torch.rand(4, 4, 3), step=1)
    pictures = PictureWriter()
    pictures.take()
    with pytest.raises(OSError, match="disk full"):
        pictures.wait()
