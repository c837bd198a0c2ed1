from __future__ import annotations

import torch
from torch.nn.functional import normalize

from ag2_ns.language.smoothing import smooth_graph, smooth_nearest


def test_nearest_equals_the_mean():
    g = torch.Generator().manual_seed(0)
    xyz, language = torch.randn(50, 3, generator=g), normalize(torch.randn(50, 6, generator=g), dim=1)
    found = smooth_nearest(language, xyz, 4)
    near = torch.cdist(xyz, xyz).argsort(1)[:, :4]
    torch.testing.assert_close(found, normalize(language[near].mean(1), dim=1))
    assert torch.equal(smooth_nearest(language, xyz, 1), normalize(language, dim=1))


def test_out_of_place_does_not_depend_on_the_order_and_in_place_does(monkeypatch):
    from ag2_ns.language import smoothing

    monkeypatch.setattr(smoothing, "CHUNK", 7)
    g = torch.Generator().manual_seed(1)
    xyz, language = torch.randn(40, 3, generator=g), normalize(torch.randn(40, 6, generator=g), dim=1)
    order = torch.randperm(40, generator=g)
    ours = smooth_nearest(language, xyz, 5)
    torch.testing.assert_close(smooth_nearest(language[order], xyz[order], 5), ours[order])
    published = smooth_nearest(language, xyz, 5, in_place=True)
    assert not torch.allclose(published, ours)
    assert not torch.allclose(smooth_nearest(language[order], xyz[order], 5, in_place=True), published[order])


def test_fewer_centres_than_neighbours_and_none():
    assert smooth_nearest(torch.eye(3), torch.randn(3, 3), 10).isfinite().all()
    assert smooth_nearest(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)


def test_graph_equals_the_mean():
    language = normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    edges = torch.tensor([[0, 1], [1, 2]])
    found = smooth_graph(language.half(), edges)
    assert found.dtype == torch.half
    expected = torch.stack([language[[0, 1]].sum(0), language[[0, 1, 2]].sum(0), language[[1, 2]].sum(0), language[3]])
    torch.testing.assert_close(found.float(), normalize(expected, dim=1), atol=2e-3, rtol=0)
    half = smooth_graph(language, edges, torch.tensor([0.5, 0.0]))
    torch.testing.assert_close(half[0], normalize(language[0] + 0.5 * language[1], dim=0))
    torch.testing.assert_close(half[2], language[2])
