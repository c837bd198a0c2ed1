import torch

from ag2_ns.ops.memory import free_memory


def test_there_is_some_free_memory():
    assert free_memory(torch.device("cpu")) > 1 << 20
