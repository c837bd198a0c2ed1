import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.perception import deep_features
from ag2_ns.perception.superpixel import SuperpixelSegmenter

needs_network = pytest.mark.skipif(not deep_features.available(), reason="ag2-ns[words] is not installed")


def shaded(height=96, width=128):
    """Stripes on a disc, half of it in the shade, before grains; and the disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (0.4 * height) ** 2
    image = np.where(disc, 130 + 50 * np.sign(np.sin(x)), 110 + rng.normal(0, 25, disc.shape))
    image = image * np.where(disc & (y > height / 2), 0.35, 1.0)
    return np.clip(image, 0, 255).astype(np.uint8)[..., None].repeat(3, 2), disc


@needs_network
def test_channels_do_not_depend_on_threads():
    image, _ = shaded()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = deep_features.deep_channels(image)
        torch.set_num_threads(2)
        two = deep_features.deep_channels(image)
    finally:
        torch.set_num_threads(before)
    assert one.shape == (96, 128, deep_features.CHANNELS) and np.isfinite(one).all()
    assert np.abs(one - two).max() <= deep_features.STEP


@needs_network
def test_a_thing_half_in_the_shade_is_one():
    image, disc = shaded()

    def best(cues):
        masks = SuperpixelSegmenter(cues=cues).segment(image).dense().numpy()
        return ((masks & disc).sum((1, 2)) / (masks | disc).sum((1, 2))).max()

    assert best("network") > max(0.75, best("colours"))


@needs_network
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 5)])
def test_odd_sizes_and_blank_images(shape):
    masks = SuperpixelSegmenter(cues="network").segment(np.full((*shape, 3), 128, np.uint8))
    assert (masks.height, masks.width) == shape


@needs_network
def test_stores_tell_cues_apart():
    colours, network = SuperpixelSegmenter(), SuperpixelSegmenter(cues="network")
    assert colours.settings != network.settings and network.settings["network"]["name"] == "efficientnet-lite2"
    assert SuperpixelSegmenter(**network.options).settings == network.settings


def test_unknown_cues_and_a_missing_network(monkeypatch):
    with pytest.raises(UserError, match="colours, network"):
        SuperpixelSegmenter(cues="depth")
    monkeypatch.setattr(deep_features, "available", lambda: False)
    with pytest.raises(UserError, match=r"ag2-ns\[words\]"):
        SuperpixelSegmenter(cues="network")
