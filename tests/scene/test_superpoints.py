import torch

from ag2_ns.scene.superpoints import name_superpoints, normals, superpoints


def corner(count=400):
    """Points on a floor and on a wall that all but meet."""
    g = torch.Generator().manual_seed(0)
    a, b = 2 * torch.rand(2, count, 2, generator=g)
    floor = torch.cat([a, torch.zeros(count, 1)], 1)
    wall = torch.stack([torch.zeros(count), b[:, 0], 0.3 + b[:, 1]], 1)
    return torch.cat([floor, wall]), torch.arange(2 * count) >= count


def test_normals_stand_on_the_surface():
    xyz, on_wall = corner()
    normal, near = normals(xyz)
    inner = xyz[:, [0, 2]].amax(1) > 0.4
    assert normal[inner & ~on_wall, 2].abs().mean() > 0.95 and normal[inner & on_wall, 0].abs().mean() > 0.95
    assert near.shape == (800, 10)


def test_floor_and_wall_are_different_pieces():
    xyz, on_wall = corner()
    group = superpoints(xyz, cell=10.0)
    floor, wall = (torch.bincount(group[on_wall == k], minlength=int(group.max()) + 1) for k in (False, True))
    assert int(floor.argmax()) != int(wall.argmax())
    assert int(torch.minimum(floor, wall).sum()) < 40
    small = superpoints(xyz, cell=0.5)
    assert small.max() > group.max()


def test_pieces_outvote_noise():
    xyz, on_wall = corner()
    texts = torch.eye(4)
    g = torch.Generator().manual_seed(1)
    feature = texts[on_wall.long()] + 0.8 * torch.randn(800, 4, generator=g)
    truth = on_wall.long()
    word = name_superpoints(superpoints(xyz, cell=1.0), feature, texts)
    named = word[superpoints(xyz, cell=1.0)]
    alone = feature.argmax(1)
    assert (named == truth).float().mean() > (alone == truth).float().mean() + 0.05


def test_nothing_says_nothing():
    assert superpoints(torch.zeros(2, 3)).tolist() == [0, 1]
    assert name_superpoints(
        torch.tensor([0, 0, 1]), torch.tensor([[1.0, 0], [0, 0], [0, 0]]), torch.eye(2)
    ).tolist() == [0, -1]
