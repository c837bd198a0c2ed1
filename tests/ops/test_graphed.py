"""A recorded loss against the same one called as it is; recording needs a CUDA device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ag2_ns.core.masks import MaskSet
from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.ops.graphed import MOST, Graphed
from ag2_ns.splat.mask_losses import contrastive_loss, plan_of
from ag2_ns.splat.propagation import propagation_loss


def terms(a, b, c):
    return torch.stack(((a * c).square().mean(), (b - c[..., :1]).abs().mean()))


def leaves(size, device, seed=0):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(size, size, n, generator=g).to(device).requires_grad_() for n in (3, 1))
    return a, b, torch.rand(size, size, 3, generator=g).to(device)


def test_without_a_gpu_the_function_is_called():
    a, b, c = leaves(5, "cpu")
    assert torch.equal(torch.stack(Graphed(terms, 2)(a, b, c)), terms(a, b, c))


class Launched(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


def test_losses_that_are_recorded_use_no_blas():
    feature = torch.rand(9, 9, 3, requires_grad=True)
    masks = MaskSet.from_dense(torch.rand(5, 9, 9) > 0.5)
    plan = plan_of(masks, feature.dtype).filled_up().tensors
    graph = AnchorGraph(torch.tensor([[0, 0, 1], [1, 2, 2]]), 9)
    with Launched() as launched:
        contrastive_loss(feature, *plan, smooth_weight=1.0, contrast_weight=1.0).sum().backward()
        propagation_loss(feature[0], graph, 0.1).backward()
    assert {"sort", "index_add_"} <= launched.names
    assert not launched.names & {"dot", "vdot", "mv", "mm", "bmm", "addmm", "addmv", "baddbmm", "addbmm"}


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
