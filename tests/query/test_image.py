from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as Pictures

from ag2_ns.core.errors import UserError
from ag2_ns.perception.palette import PaletteEncoder
from ag2_ns.perception.table import TableEncoder
from ag2_ns.query.image import Image, cropped, picture_vector, read_picture


def picture(path, colour=(200, 30, 30), size=(40, 30), mode="RGB"):
    Pictures.new(mode, size, colour).save(path)
    return path


def test_reads_what_people_have(tmp_path):
    assert read_picture(picture(tmp_path / "a.png")).shape == (30, 40, 3)
    assert read_picture(picture(tmp_path / "grey.jpg", 128, mode="L")).shape == (30, 40, 3)
    seen = read_picture(picture(tmp_path / "clear.png", (255, 255, 255, 0), mode="RGBA"))
    assert (seen == 0).all()  # transparent is black, as crops of masks are
    turned = Pictures.new("RGB", (40, 30), "white")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (40, 30, 3)


def test_what_is_no_picture(tmp_path):
    with pytest.raises(UserError, match="no such file; give a picture"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(UserError, match="cannot be read as a picture") as error:
        read_picture(tmp_path / "text.png")
    assert "\n" not in str(error.value)
    (tmp_path / "cut.png").write_bytes(picture(tmp_path / "a.png", size=(200, 200)).read_bytes()[:80])
    with pytest.raises(UserError, match="cannot be read as a picture"):
        read_picture(tmp_path / "cut.png")


def test_crops():
    pixels = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3)
    assert (cropped(pixels, (5, 2, 25, 22), "a") == pixels[2:22, 5:25]).all()
    assert (cropped(pixels, (0, 0, 40, 30), "a") == pixels).all()
    for crop in ((-1, 0, 20, 20), (0, 0, 41, 20), (20, 0, 10, 20), (50, 50, 90, 90)):
        with pytest.raises(UserError, match="does not lie inside of its 40x30 pixels"):
            cropped(pixels, crop, "a")
    with pytest.raises(UserError, match="as numbers"):
        cropped(pixels, (0, 0, float("nan"), 10), "a")
    with pytest.raises(UserError, match="show too little"):
        cropped(pixels, (0, 0, 4, 20), "a")


def test_vectors_of_pictures():
    red = np.full((20, 20, 3), (200, 30, 30), np.uint8)
    encoder = PaletteEncoder()
    vector = picture_vector(encoder, red)
    texts = encoder.encode_text(["red", "blue"])
    assert float(texts[0] @ vector) > 0.7 > float(texts[1] @ vector)


def test_encoders_without_pictures(tmp_path):
    (tmp_path / "texts.json").write_text('{"red": [1, 0]}')
    table = TableEncoder(texts=tmp_path / "texts.json")
    with pytest.raises(UserError, match="encoder table, which takes no pictures"):
        picture_vector(table, np.zeros((20, 20, 3), np.uint8))

    class Mute:
        name = "mute"

        def encode_image(self, image, masks, name):
            return torch.zeros(1, 4)

    with pytest.raises(UserError, match="has nothing to say of this picture"):
        picture_vector(Mute(), np.zeros((20, 20, 3), np.uint8))


def test_the_query(loaded_scene, tmp_path):
    """The balls of `blob_run`, whose language is by a palette here."""
    scene = loaded_scene
    path = picture(tmp_path / "ball.png", (25, 200, 25))
    found = scene.select(image=path)
    assert found.selection.label == "like ball.png" and not found.selection.empty
    green = scene.select(text="green")
    assert found.selection.nodes == green.selection.nodes
    whole = np.zeros((40, 60, 3), np.uint8)
    whole[:, 30:] = (25, 50, 230)
    Pictures.fromarray(whole).save(tmp_path / "both.png")
    blue = scene.select(image=tmp_path / "both.png", crop=(32, 0, 60, 40))
    assert blue.selection.nodes == scene.select(text="blue").selection.nodes
    same = scene.select(Image(whole[:, 32:], name="the box"))
    assert same.selection.nodes == blue.selection.nodes and same.selection.label == "the box"
    high = scene.select(image=path, floor=0.99999)
    assert high.selection.empty and "below 1.00" in high.reason
    with pytest.raises(UserError, match="uint8 H x W x 3"):
        scene.select(Image(np.zeros((5, 5)), name="x"))


@pytest.fixture
def loaded_scene(blob_run):
    """The tiny run with the language of colours, as `ag2 prepare` makes it."""
    from dataclasses import replace

    import ag2_ns
    from ag2_ns.ops.sh import sh_to_rgb

    scene = ag2_ns.open(blob_run, "cpu")
    encoder = PaletteEncoder()
    index, rows = scene.index, []
    for node in range(index.tree.num_nodes):
        inside = index.tree.anchors_of(node)[index.gaussian_anchor]
        rgb = sh_to_rgb(scene.gaussians.sh[inside, 0].mean(0)).clamp(0, 1)
        rows.append(picture_vector(encoder, np.full((10, 10, 3), (rgb * 255).numpy().astype(np.uint8), np.uint8)))
    language = replace(index.language, feature=torch.stack(rows).half())

    class Texts:
        data = None

        def encoder(self):
            return encoder

        def embed(self, text):
            return encoder.encode_text([text])[0].float()

        def negatives(self):
            return None

        def vocabulary(self):
            return []

    return replace(scene, index=replace(index, language=language), texts=Texts())
