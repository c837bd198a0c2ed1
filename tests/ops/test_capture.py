"""Recording on a CUDA device, and what is left of it where it fails."""

import pytest
import torch

from ag2_ns.ops.capture import MemoryPool, capture
from ag2_ns.ops.graphed import Graphed
from ag2_ns.ops.replayed import Replayed


def waits(x):
    return (x * x.sum().item(),)


@pytest.mark.gpu
def test_what_cannot_be_recorded_leaves_torch_as_it_was():
    stream, x = torch.cuda.Stream(), torch.ones(3, device="cuda")
    torch.manual_seed(5)
    expected = torch.rand(4, device="cuda")
    torch.manual_seed(5)
    for pool in (None, MemoryPool().handle):
        with pytest.raises(RuntimeError):
            capture(lambda: waits(x), stream, pool)
    assert torch.equal(torch.rand(4, device="cuda"), expected)
    graph, y = capture(lambda: x * 2, stream)
    x.fill_(3)
    graph.replay()
    assert y.tolist() == [6, 6, 6]


@pytest.mark.gpu
def test_a_pool_takes_recordings_when_those_of_before_are_gone():
    memory = MemoryPool()
    for count in (3, 100_000, 3_000_000, 5):
        x = torch.ones(count, device="cuda")
        graph, y = capture(lambda x=x: x * 2, memory.stream, memory.handle)
        graph.replay()
        assert (y == 2).all()
        del graph, y
    held = torch.cuda.memory_reserved()
    for _ in range(20):
        x = torch.ones(2_900_000, device="cuda")
        graph, y = capture(lambda x=x: x * 2, memory.stream, memory.handle)
        del graph, y
    assert torch.cuda.memory_reserved() - held < 8 * 4 * 3_000_000


@pytest.mark.gpu
def test_what_waits_for_the_device_is_called_as_it_is():
    x = torch.ones(3, device="cuda", requires_grad=True)
    replayed, graphed = Replayed(waits), Graphed(lambda x: waits(x)[0], trained=1)
    for _ in range(8):
        assert replayed((x,), ())[0].tolist() == [3, 3, 3]
        assert [float(t) for t in graphed(x)] == [3, 3, 3]
    torch.rand(3, device="cuda")
