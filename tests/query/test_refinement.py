from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.query.refinement import RefinementConfig, refine_prompt, stretched


def angles(*degrees: float) -> torch.Tensor:
    a = torch.tensor(degrees).deg2rad()
    return torch.stack((a.cos(), a.sin()), 1)


def slow(score, feature, opacity, spread, margins=(0.4, 0.3, 0.2, 0.1), seed_score=0.5, seed_opacity=0.1, accept=0.5):
    """The published algorithm, step by step, in Python."""
    n = len(score)
    processed, answer = set(), set()
    while True:
        seeds = [i for i in range(n) if i not in processed and score[i] > seed_score and opacity[i] > seed_opacity]
        if not seeds:
            return [i in answer for i in range(n)]
        seed = max(seeds, key=lambda i: (score[i], -i))
        for c in margins:
            region = [i for i in range(n) if i not in processed and feature[i] @ feature[seed] > 1 - c * spread]
            if not region:
                region = [seed]
                break
            weight = sum(opacity[i] for i in region)
            if sum(score[i] * opacity[i] for i in region) / weight >= accept:
                answer |= set(region)
                break
        processed |= set(region) | {seed}


def test_six_gaussians():
    """Two look alike and answer; a third like them does not, but is theirs; one is apart; one is transparent.

    cos 10 = 0.985, cos 20 = 0.940, cos 40 = 0.766. With a spread of 0.5 the margins reach down to cosines of 0.8, 0.85,
    0.9 and 0.95, that is 36.9, 31.8, 25.8 and 18.2 degrees.
    """
    feature = angles(0, 10, 20, 90, 180, 0)
    score = torch.tensor([1.0, 0.9, 0.1, 0.0, 0.6, 0.8])
    opacity = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.9, 0.05])
    found = refine_prompt(score, feature, opacity, 0.5)
    # From 0: {0, 1, 2, 5}, mean (0.9 * 2.0 + 0.05 * 0.8) / 2.75 = 0.669, taken at once, what does not answer included.
    # Then 4 alone, mean 0.6, taken; 5 was processed.
    assert found.tolist() == [True, True, True, False, True, True]
    # Where the third one weighs more, the margins close in until it is out.
    found = refine_prompt(score, feature, torch.tensor([0.9, 0.9, 5.0, 0.9, 0.9, 0.05]), 0.5)
    assert found.tolist() == [True, True, False, False, True, True]


def test_a_region_that_never_answers_is_given_up():
    feature = angles(0, 1, 2, 3, 90, 91)
    score = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.7, 0.6])
    found = refine_prompt(score, feature, torch.ones(6), 1.0)
    # The first four are alike down to the last margin, mean 0.25: marked, so that 1 to 3 are in no other region.
    assert found.tolist() == [False] * 4 + [True] * 2


@given(st.integers(1, 30), st.floats(1e-3, 2.0), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_equals_the_algorithm_step_by_step(n, spread, seed):
    g = torch.Generator().manual_seed(seed)
    feature = torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=torch.double), dim=1)
    score = torch.rand(n, generator=g, dtype=torch.double)
    opacity = torch.rand(n, generator=g, dtype=torch.double)
    found = refine_prompt(score, feature, opacity, spread)
    assert found.tolist() == slow(score.tolist(), feature, opacity.tolist(), spread)


def test_without_a_seed_nothing_is_selected():
    feature = angles(0, 10)
    assert not refine_prompt(torch.tensor([0.5, 0.2]), feature, torch.ones(2), 0.5).any()
    assert not refine_prompt(torch.tensor([1.0, 0.9]), feature, torch.full((2,), 0.1), 0.5).any()


def test_most_regions_bounds_the_work():
    feature = torch.eye(8)
    found = refine_prompt(torch.ones(8), feature, torch.ones(8), 0.1, RefinementConfig(most=3))
    assert int(found.sum()) == 3


def test_stretched():
    r = torch.tensor([0.2, 0.4, 0.5, 0.6])
    torch.testing.assert_close(stretched(r), torch.tensor([0.0, 0.0, 0.5, 1.0]), atol=1e-6, rtol=0)
    assert (stretched(torch.full((3,), 0.4)) == 0).all()
    odd = stretched(torch.tensor([float("nan"), 0.2, 0.6]))
    torch.testing.assert_close(odd, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    assert (stretched(torch.full((2,), float("nan"))) == 0).all()
