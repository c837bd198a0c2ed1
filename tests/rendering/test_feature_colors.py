import pytest
import torch

from ag2_ns.rendering.feature_colors import color_projection, feature_colors


def features(generator, count=400, width=3):
    axes = torch.randn(width, width, generator=generator)
    values = torch.randn(count, width, generator=generator) @ axes
    return torch.nn.functional.normalize(values, dim=-1)


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_shape_and_range(generator, width):
    anchors = features(generator, width=width)
    image = anchors[torch.randint(0, 400, (6, 5), generator=generator)]
    alpha = torch.rand(6, 5, 1, generator=generator)
    colors = feature_colors(image * alpha, alpha, anchors)
    assert colors.shape == (6, 5, 3) and colors.min() >= 0 and colors.max() <= 1
    assert (colors <= alpha + 1e-6).all()


def test_opacity_dims_a_colour_but_does_not_change_it(generator):
    anchors = features(generator)
    image = anchors[:12].reshape(3, 4, 3)
    full = feature_colors(image, torch.ones(3, 4, 1), anchors)
    half = feature_colors(image * 0.5, torch.full((3, 4, 1), 0.5), anchors)
    assert torch.allclose(half, full * 0.5, atol=1e-5)


def test_nothing_is_black(generator):
    anchors = features(generator)
    assert (feature_colors(torch.zeros(2, 2, 3), torch.zeros(2, 2, 1), anchors) == 0).all()


def test_colours_do_not_depend_on_the_order_of_anchors_or_on_the_view(generator):
    anchors = features(generator, width=6)
    image, alpha = anchors[:4].reshape(2, 2, 6), torch.ones(2, 2, 1)
    a = feature_colors(image, alpha, anchors)
    b = feature_colors(image, alpha, anchors[torch.randperm(400, generator=generator)])
    assert torch.allclose(a, b, atol=1e-4)
    assert torch.equal(a[:1], feature_colors(image[:1], alpha[:1], anchors))


def test_the_axes_are_the_principal_ones(generator):
    anchors = torch.randn(5000, 4, generator=generator) * torch.tensor([0.1, 3.0, 1.0, 0.3]) + 2.0
    mean, projection = color_projection(anchors)
    assert torch.allclose(mean, anchors.mean(0))
    strongest = projection.abs().argmax(0).tolist()
    assert strongest == [1, 2, 3]
    assert (projection[strongest, range(3)] > 0).all(), "signs are fixed"
    assert torch.allclose(((anchors - mean) @ projection).std(0), torch.full((3,), 0.25), atol=0.01)


def test_equal_features_give_grey():
    anchors = torch.ones(10, 3)
    colors = feature_colors(torch.ones(2, 2, 3), torch.ones(2, 2, 1), anchors)
    assert torch.isfinite(colors).all() and torch.allclose(colors, torch.full((2, 2, 3), 0.5), atol=1e-3)
