import numpy as np
import pytest
from bad_scenes import HEIGHT, WIDTH, transforms_scene
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.plugin.undistorted import served_images

RAMP = np.linspace(0, 255, HEIGHT * WIDTH).round().astype(np.uint8).reshape(HEIGHT, WIDTH)


def served(tmp_path, image: Image.Image, suffix: str = ".png") -> np.ndarray:
    """What is served of an image in place of a scene's first."""
    scene = transforms_scene(tmp_path / "s")
    file = scene / "images" / "view_00.png"
    image.save(file, format={".png": "PNG", ".tif": "TIFF", ".jpg": "JPEG"}[suffix])
    (view,) = (v for v in served_images(scene) if v.file.name == file.name)
    return view.load()


@pytest.mark.parametrize("mode", ["L", "I;16", "1", "RGB"])
def test_grey_of_any_depth(mode, tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    deep[RAMP < 255] += 100  # the low byte is not the picture
    bright = (RAMP > 127) * np.uint8(255)
    image, expected = {
        "L": (Image.fromarray(RAMP), RAMP),
        "I;16": (Image.fromarray(deep), RAMP),
        "1": (Image.fromarray(bright).convert("1"), bright),
        "RGB": (Image.fromarray(RAMP).convert("RGB"), RAMP),
    }[mode]
    assert image.mode == mode
    assert np.array_equal(served(tmp_path, image), np.stack([expected] * 3, -1))


def test_a_palette_gives_its_colours(tmp_path):
    image = Image.fromarray(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8) % 3)
    image.putpalette([200, 10, 20, 30, 180, 40, 50, 60, 220])
    picture = served(tmp_path, image)
    assert picture.shape[2] == 3 and np.array_equal(picture, np.asarray(image.convert("RGB")))


def test_grey_with_alpha(tmp_path):
    alpha = 255 - RAMP
    picture = served(tmp_path, Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(alpha)]))
    assert np.array_equal(picture, np.stack([RAMP, RAMP, RAMP, alpha], -1))


def test_cmyk_is_not_taken_for_alpha(tmp_path):
    picture = served(tmp_path, Image.new("CMYK", (WIDTH, HEIGHT), (0, 255, 255, 0)), ".jpg")
    assert picture.shape[2] == 3 and np.abs(picture.astype(int) - [255, 0, 0]).max() < 12


def test_floating_point_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"view_00\.png: its pixels are floating-point numbers; save it with 8 bits"):
        served(tmp_path, Image.fromarray(RAMP.astype(np.float32)), ".tif")
