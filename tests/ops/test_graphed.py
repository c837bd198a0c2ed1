"""A recorded loss against the same one called as it is; recording needs a CUDA device."""

import pytest
import torch

from ag2_ns.ops.graphed import MOST, Graphed


def terms(a, b, c):
    return torch.stack(((a * c).square().mean(), (b - c[..., :1]).abs().mean()))


def leaves(size, device, seed=0):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(size, size, n, generator=g).to(device).requires_grad_() for n in (3, 1))
    return a, b, torch.rand(size, size, 3, generator=g).to(device)


def test_without_a_gpu_the_function_is_called():
    a, b, c = leaves(5, "cpu")
    assert torch.equal(torch.stack(Graphed(terms, 2)(a, b, c)), terms(a, b, c))


@pytest.mark.gpu
def test_values_and_gradients_are_those_of_the_function():
    graphed = Graphed(terms, 2)
    for seed in range(3):
        for size in (7, 12):
            ours, plain = leaves(size, "cuda", seed), leaves(size, "cuda", seed)
            value, expected = torch.stack(graphed(*ours)), terms(*plain)
            torch.testing.assert_close(value, expected)
            value.sum().backward()
            expected.sum().backward()
            torch.testing.assert_close(ours[0].grad, plain[0].grad)
            torch.testing.assert_close(ours[1].grad, plain[1].grad)


@pytest.mark.gpu
def test_ever_new_sizes_are_not_recorded():
    graphed = Graphed(terms, 2)
    for size in range(4, 6 + MOST):
        a, b, c = leaves(size, "cuda")
        torch.testing.assert_close(torch.stack(graphed(a, b, c)), terms(a, b, c))
