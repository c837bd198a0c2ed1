import torch

from ag2_ns.ops.ranges import spread


def test_ranges_one_after_the_other():
    length, start = torch.tensor([2, 0, 3]), torch.tensor([10, 7, -1])
    which, number = spread(length, start)
    assert which.tolist() == [0, 0, 2, 2, 2] and number.tolist() == [10, 11, -1, 0, 1]
    assert spread(length)[1].tolist() == [0, 1, 0, 1, 2]
    assert [len(t) for t in spread(length[:0], start[:0])] == [0, 0]
