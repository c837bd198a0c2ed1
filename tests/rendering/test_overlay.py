"""How a selection is marked in a picture."""

import numpy as np
import torch

from ag2_ns.rendering.overlay import DIM, marked, outline, overlay, to_uint8


def test_overlay_dims_outside_tints_inside_and_draws_the_edge():
    rgb = torch.full((60, 80, 3), 0.5)
    share = torch.zeros(60, 80, 1)
    share[20:40, 30:50] = 1
    color = torch.tensor([[1.0, 0.0, 0.0]])
    out = overlay(rgb, share, color)
    assert torch.allclose(out[0, 0], rgb[0, 0] * DIM)
    assert torch.equal(out[20, 35], color[0])
    middle = out[30, 40]
    assert middle[0] > 0.5 > middle[1] > 0.2
    assert torch.equal(overlay(rgb, share[..., :0], color[:0]), rgb)


def test_the_outline_is_inside_and_not_along_the_frame():
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[:10, :10] = True
    edge = outline(mask, 1)
    assert edge[9, 5] and edge[5, 9] and not edge[0, 5] and not edge[5, 0]
    assert not (edge & ~mask).any() and not edge[5, 5]


def test_a_mask_is_marked_in_bytes_as_shares_are_in_floats():
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[10:30, 15:35] = True
    expected = overlay(
        torch.from_numpy(picture).float() / 255, torch.from_numpy(mask)[..., None].float(), torch.tensor([[0.0, 1, 0]])
    )
    assert np.array_equal(marked(picture, mask, (0.0, 1.0, 0.0)), to_uint8(expected))
