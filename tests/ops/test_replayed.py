"""A recorded function and its gradient against the same called as it is; recording needs a CUDA device."""

import pytest
import torch
from torch.nn import Parameter

from ag2_ns.ops.graphed import MOST
from ag2_ns.ops.replayed import Replayed


def function(a, b, c, power):
    product = (a * c).pow(power)
    return product, (product > 0).int(), product.sum(1) * b, product.detach() + 1


def leaves(count, device, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [Parameter(torch.rand(*size, generator=g).to(device)) for size in ((count, 3), (count,))]


def loss(results, weight):
    return (results[0] * weight).sum() + 2 * results[2].sum()


def test_without_a_gpu_the_function_is_called():
    a, b = leaves(5, "cpu")
    found = Replayed(function)((a, b), (torch.ones(3),), 2)
    assert all(torch.equal(x, y) for x, y in zip(found, function(a, b, torch.ones(3), 2)))
    loss(found, 1.0).backward()
    assert a.grad is not None


@pytest.mark.gpu
def test_values_and_gradients_are_those_of_the_function():
    replayed = Replayed(function)
    for count in (5, 9, 5000, 7):  # the leaves move
        (a, b), (x, y) = leaves(count, "cuda"), leaves(count, "cuda")
        for step in range(10):
            constant = torch.rand(3, device="cuda", generator=torch.Generator("cuda").manual_seed(step))
            weight, power = torch.rand(count, 3, device="cuda"), 2 + step % 2
            found, expected = replayed((a, b), (constant,), power), function(x, y, constant, power)
            for one, other in zip(found, expected):
                torch.testing.assert_close(one.detach(), other.detach())
                assert one.requires_grad == other.requires_grad
            found[0].retain_grad()
            loss(found, weight).backward()
            loss(expected, weight).backward()
            torch.testing.assert_close(a.grad, x.grad)
            torch.testing.assert_close(b.grad, y.grad)
            assert found[0].grad is not None
            for leaf in (a, b, x, y):
                leaf.data -= 0.1 * leaf.grad
                leaf.grad = None


@pytest.mark.gpu
def test_what_got_no_gradient_counts_for_nothing():
    replayed, (a, b) = Replayed(function), leaves(4, "cuda")
    for _ in range(6):
        a.grad = b.grad = None
        results = replayed((a, b), (torch.ones(3, device="cuda"),), 1)
        results[0].sum().backward()
        torch.testing.assert_close(a.grad, torch.ones_like(a))
        assert b.grad is None or (b.grad == 0).all()


@pytest.mark.gpu
def test_gradients_of_steps_add_up():
    replayed, (a, b) = Replayed(function), leaves(4, "cuda")
    for k in range(8):
        results = replayed((a, b), (torch.full((3,), 1.0 + k, device="cuda"),), 1)
        results[0].sum().backward()
        torch.testing.assert_close(a.grad, torch.full_like(a, sum(1.0 + i for i in range(k + 1))))


@pytest.mark.gpu
def test_the_gradient_of_what_is_watched():
    def doubled(a, b, c):
        middle = a * c
        return middle * middle, middle

    (a, b), constant = leaves(4, "cuda"), torch.tensor([1.0, 2.0, 3.0], device="cuda")
    replayed = Replayed(doubled, watched=1)
    for _ in range(6):
        a.grad = None
        result, middle = replayed((a, b), (constant,))
        if middle.requires_grad:
            middle.retain_grad()
        result.sum().backward()
        torch.testing.assert_close(middle.grad, 2 * (a * constant).detach())
        torch.testing.assert_close(a.grad, (2 * a * constant.square()).detach())
    assert replayed.recorded


@pytest.mark.gpu
def test_ever_new_options_are_not_recorded():
    replayed, (a, b) = Replayed(function), leaves(4, "cuda")
    for power in (k for k in range(1, 4 + MOST) for _ in range(4)):
        constant = torch.full((3,), 0.5, device="cuda")
        for one, other in zip(replayed((a, b), (constant,), power), function(a, b, constant, power)):
            torch.testing.assert_close(one.detach(), other.detach())


@pytest.mark.gpu
def test_without_gradients_the_function_is_called():
    replayed, (a, b) = Replayed(function), leaves(4, "cuda")
    with torch.no_grad():
        assert not replayed((a, b), (torch.ones(3, device="cuda"),), 2)[0].requires_grad
