"""Tile lists of a fixed size against a loop; the kernels are interpreted on the CPU."""

from own_process import run_script

SCRIPT = """
import torch
from ag2_ns.rendering.tiles_triton import tile_lists

generator, columns, rows = torch.Generator().manual_seed(0), 7, 5
for axes in (1, 2):
    means = torch.rand(300, 2, generator=generator) * torch.tensor([130.0, 100.0]) - 10
    reach = torch.randint(0, 30, (300, axes), generator=generator, dtype=torch.int32)
    depths = torch.randint(1, 50, (300,), generator=generator).float()
    expected = [[] for _ in range(columns * rows)]

    def tiles(centre, reach, most):
        ends = torch.floor((centre - reach) / 16), torch.ceil((centre + reach) / 16)
        return range(*(int(end.clamp(0, most)) for end in ends))

    for n in depths.sort(stable=True).indices.tolist():
        wide, high = int(reach[n, 0]), int(reach[n, -1])
        for row in tiles(means[n, 1], high, rows) if wide and high else ():
            for column in tiles(means[n, 0], wide, columns):
                expected[row * columns + column].append(n)
    total = sum(map(len, expected))
    for capacity in (4096, 1024):
        offsets, members, pairs = tile_lists(means, reach, depths, 16, columns, rows, capacity)
        assert offsets.shape == (1, rows + 1, columns) and int(pairs) == total > 1024
        ends = offsets.flatten().tolist()
        found = [members[ends[k] : ends[k + 1]].tolist() for k in range(columns * rows)]
        assert sum(map(len, found)) == min(total, capacity)
        if capacity > total:
            assert found == expected
        else:
            assert all(some == all_[: len(some)] for some, all_ in zip(found, expected))
"""


def test_lists_are_those_of_a_loop_and_the_farthest_are_left_out():
    done = run_script(SCRIPT)
    assert done.returncode == 0, done.stderr
