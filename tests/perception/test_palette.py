from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.encoder import Encoder, make_encoder
from ag2_ns.perception.palette import BASIC, PaletteEncoder, basic_table, color_codes, join_blocks, shade_table

SWATCHES = {
    "red": (180, 40, 35),
    "orange": (230, 120, 30),
    "yellow": (225, 200, 50),
    "green": (70, 120, 45),
    "blue": (40, 70, 180),
    "purple": (110, 50, 130),
    "pink": (230, 140, 170),
    "brown": (110, 72, 45),
    "black": (22, 22, 25),
    "white": (240, 240, 236),
    "grey": (128, 126, 122),
}


@pytest.fixture(scope="module")
def encoder() -> PaletteEncoder:
    return PaletteEncoder()


def vectors(encoder, colours) -> torch.Tensor:
    """One mask per colour, shaded from 85 % to 105 %."""
    colours = np.array(colours, np.float32)[:, None]
    image = np.clip(colours * np.array([0.85, 0.95, 1.0, 1.05])[None, :, None], 0, 255).astype(np.uint8)
    n = len(image)
    masks = MaskSet(n, 4, torch.arange(4 * n), torch.arange(n).repeat_interleave(4), torch.ones(n))
    return encoder.encode_image(image, masks, "view")


def test_protocol(encoder):
    assert isinstance(encoder, Encoder)
    assert isinstance(make_encoder("palette"), PaletteEncoder)


def test_every_basic_word_answers_with_its_colour(encoder):
    assert set(SWATCHES) == set(BASIC)
    similarity = (
        encoder.encode_text([f"the {name} mug" for name in SWATCHES]) @ vectors(encoder, list(SWATCHES.values())).T
    )
    assert similarity.argmax(1).tolist() == list(range(len(SWATCHES)))
    assert (similarity.diagonal() > 0.55).all()
    off = similarity - 2 * torch.eye(len(SWATCHES))
    assert off.max() < 0.5


@pytest.mark.parametrize(
    "text, wins, over",
    [
        ("dark red", (100, 12, 14), (230, 60, 60)),
        ("light blue box", (170, 200, 235), (20, 40, 110)),
        ("the teal bowl", (15, 130, 120), (90, 150, 50)),
        ("navy", (15, 20, 80), (120, 160, 230)),
        ("banana", (225, 205, 60), (120, 70, 40)),
        ("golden ring", (215, 175, 40), (130, 130, 130)),
        ("the dark mug", (30, 28, 27), (220, 210, 200)),
        ("bright green", (40, 230, 40), (40, 70, 35)),
    ],
)
def test_shades(encoder, text, wins, over):
    win, lose = (encoder.encode_text([text]) @ vectors(encoder, [wins, over]).T)[0].tolist()
    assert win > lose + 0.05, (win, lose)


def test_two_colours_prefer_what_has_both(encoder):
    image = np.zeros((3, 8, 3), np.uint8)
    image[0], image[1], image[2] = SWATCHES["red"], SWATCHES["white"], SWATCHES["red"]
    image[2, 4:] = SWATCHES["white"]
    masks = MaskSet.from_dense(torch.eye(3, dtype=torch.bool)[:, :, None].expand(3, 3, 8))
    similarity = encoder.encode_text(["red and white"]) @ encoder.encode_image(image, masks, "").T
    assert similarity[0].argmax() == 2
    assert similarity[0, 2] > 0.7


def test_unknown_words_give_zero(encoder):
    assert encoder.known_words("the bear statue") == []
    assert not encoder.encode_text(["the bear statue", ""]).any()
    assert encoder.known_words("A Gray bear") == ["grey"]
    assert encoder.known_words("the green banana") == ["green"]
    assert encoder.encode_text([]).shape == (0, encoder.dim)
    assert encoder.unknown_words("The purplish walrus on a table!") == ["walrus", "table"]
    assert encoder.unknown_words("all gray and lilac") == []


def test_empty_mask_gives_zero_and_other_rows_have_length_one(encoder):
    dense = torch.zeros(2, 5, 6, dtype=torch.bool)
    dense[1, 2:] = True
    rows = encoder.encode_image(np.full((5, 6, 3), 90, np.uint8), MaskSet.from_dense(dense), "")
    assert not rows[0].any()
    assert rows[1].norm() == pytest.approx(1, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_rows_follow_a_slow_mean_over_pixels(seed):
    from ag2_ns.perception.palette import basic_table, color_codes, join_blocks, shade_table

    encoder = PaletteEncoder()
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    dense = rng.random((3, 6, 7)) < 0.5
    dense[:, 0, 0] = True
    rows = encoder.encode_image(image, MaskSet.from_dense(torch.from_numpy(dense)), "")
    basic, shade = basic_table(), shade_table()
    for row, mask in zip(rows, dense):
        codes = color_codes(image[mask])
        expected = join_blocks(basic[codes].mean(0)[None], shade[codes].mean(0)[None])[0]
        assert np.allclose(row, expected, atol=1e-5)


def test_counts_of_colours_are_weighed_by_their_tables(encoder):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    masks = MaskSet.from_dense(torch.from_numpy(rng.random((4, 9, 11)) < 0.5))
    basic, shade = basic_table(), shade_table()
    codes = color_codes(image.reshape(-1, 3))
    rows = [(basic[codes[m]].sum(0), shade[codes[m]].sum(0)) for m in masks.dense().reshape(4, -1).numpy()]
    expected = join_blocks(*(np.stack(block) for block in zip(*rows)))
    assert np.allclose(encoder.encode_image(image, masks, ""), expected, atol=1e-5)
