import numpy as np
import pytest

from ag2_ns.core.errors import UserError
from ag2_ns.synthetic.tabletop.kinds import COLOURS, KINDS
from ag2_ns.synthetic.tabletop.layout import MAX_OBJECTS, lay, orbit
from ag2_ns.synthetic.tabletop.raytrace import cast
from ag2_ns.synthetic.tabletop.shapes import BOX, FRUSTUM, SPHERE, TORUS, Body, Material, Placed, pack, rotation

PAINT = Material((0.5, 0.2, 0.1))
IDENTITY, ORIGIN = np.eye(3), np.zeros(3)
TURN = rotation((1.0, 2.0, -0.5), 37.0)

SOLIDS = {
    "sphere": Body().sphere((0.1, 0.0, 0.2), (0.5, 0.3, 0.2), PAINT, TURN),
    "box": Body().box((0.0, 0.1, 0.0), (0.4, 0.2, 0.3), PAINT, TURN),
    "cylinder": Body().rod((-0.2, 0.1, -0.3), (0.2, 0.0, 0.5), 0.3, 0.3, PAINT),
    "frustum": Body().rod((-0.2, 0.1, -0.3), (0.2, 0.0, 0.5), 0.35, 0.1, PAINT),
    "torus": Body().torus((0.0, 0.0, 0.1), 0.4, 0.12, PAINT, TURN),
    "arc": Body().torus((0.0, 0.0, 0.1), 0.4, 0.12, PAINT, TURN, arc=1.9),
    "round": Body().round((0.0, 0.1, 0.0), (0.4, 0.2, 0.3), 0.08, PAINT, TURN),
    "capsule": Body().capsule((-0.2, 0.1, -0.3), (0.2, 0.0, 0.4), 0.15, PAINT),
}


def inside(primitive, points, linear=IDENTITY, shift=ORIGIN):
    """Whether world points lie in a solid primitive: the slow reference (shells and cut spheres have no inside)."""
    m = linear @ primitive.matrix[:, :3]
    x, y, z = np.linalg.solve(m, (points - shift - linear @ primitive.matrix[:, 3]).T)
    p = primitive.parameters
    if primitive.kind == SPHERE:
        return (x * x + y * y + z * z < 1) & (p[0] >= 1)
    if primitive.kind == BOX:
        return np.max(np.abs([x, y, z]), axis=0) < 1
    if primitive.kind == FRUSTUM:
        return (z > 0) & (z < 1) & (np.hypot(x, y) < p[0] + (p[1] - p[0]) * z) & (p[2] < 0.5)
    if primitive.kind == TORUS:
        turn = np.clip(np.arctan2(y, x), -p[1], p[1])
        return np.hypot(np.hypot(x - np.cos(turn), y - np.sin(turn)), z) < p[0]
    q = np.maximum(np.abs([x, y, z]) - (np.array(p[:3]) - p[3])[:, None], 0)
    return np.linalg.norm(q, axis=0) < p[3]


@pytest.mark.parametrize("name", SOLIDS)
def test_rays_meet_solids_where_a_dense_march_does(name):
    body = SOLIDS[name]
    scene = pack([Placed(body, (0, 0, 0), np.eye(3), 1.0, 1)], (3.0, -3.0, 3.0))
    rng = np.random.default_rng(0)
    start = rng.standard_normal((400, 3))
    start *= 1.6 / np.linalg.norm(start, axis=1, keepdims=True)
    way = rng.uniform(-0.4, 0.4, (400, 3)) - start
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    distance, hit = cast(scene, start, way)
    steps = np.linspace(0, 3.2, 1601)
    marched = start[:, None] + way[:, None] * steps[None, :, None]
    member = inside(body.primitives[0], marched.reshape(-1, 3)).reshape(400, -1)
    found = member.any(1)
    # The march misses chords under its step and the sphere tracer may give up on grazing rays.
    assert (found == (hit == 0)).mean() > 0.985 and (found & (hit == 0)).sum() > 60
    both = found & (hit == 0)
    first = steps[member.argmax(1)]
    assert (np.abs(distance - first)[both] < 0.0021).mean() > 0.99


def test_tubes_and_cut_spheres_show_their_inside():
    body = Body().rod((0, 0, 0), (0, 0, 0.5), 0.3, 0.3, PAINT, tube=True).sphere((1, 0, 0.4), 0.4, PAINT, cut=0.0)
    scene = pack([Placed(body, (0, 0, 0), np.eye(3), 1.0, 1)], (3.0, -2.0, 3.0))
    down = np.array([[0.1, 0, 2.0], [1.0, 0, 2.0]])
    distance, hit = cast(scene, down, np.array([[0.0, 0, -1], [0, 0, -1]]))
    assert hit.tolist() == [-1, 0]
    np.testing.assert_allclose(distance, [4.0, 2.0], atol=1e-9)
    distance, hit = cast(scene, np.zeros((1, 3)) + [0, 0, 0.2], np.array([[1.0, 0, 0]]))
    np.testing.assert_allclose(distance, [0.3], atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_kinds_stand_on_the_table_and_are_composite(name):
    body = KINDS[name].build(COLOURS["red"])
    assert len(body.primitives) >= 4
    # Rays from below meet the body at its lowest point: within 2.5 mm above z = 0, never under it.
    r = body.footprint() * 1.02
    scene = pack([Placed(body, (0, 0, 0), np.eye(3), 1.0, 1)], (5.0, -1.0, 5.0))
    x, y = np.meshgrid(np.linspace(-r, r, 121), np.linspace(-r, r, 121))
    start = np.stack([x.ravel(), y.ravel(), np.full(x.size, -0.5)], 1)
    distance, hit = cast(scene, start, np.broadcast_to([0.0, 0, 1], start.shape))
    low = (distance[hit >= 0] - 0.5).min()
    assert -1e-6 < low < 0.0025
    # The outline holds every surface point.
    surface = start[hit >= 0] + distance[hit >= 0, None] * np.array([0, 0, 1.0])
    assert (np.linalg.norm(surface[:, :2], axis=1) <= body.footprint() + 1e-6).all()


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, 0), (14, 0), (14, 1), (20, 2), (40, 0), (40, 3)])
def test_nothing_interpenetrates_and_labels_are_unique(count, seed):
    layout = lay(count, seed)
    assert len(set(layout.labels.values())) == count + 1
    scene = layout.pack()
    objects = [(b, p) for b, p in enumerate(layout.placed) if p.id > 0]
    rng = np.random.default_rng(0)
    surface, owner = [], []
    for b, p in objects[1:]:
        outline = p.outline()
        centre, r = outline.mean(0), np.linalg.norm(outline - outline.mean(0), axis=1).max()
        start = rng.standard_normal((1500, 3))
        start = centre + start * (1.05 * r / np.linalg.norm(start, axis=1, keepdims=True))
        way = centre + rng.uniform(-0.7, 0.7, start.shape) * (outline.max(0) - outline.min(0)) / 2 - start
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        distance, body = cast(scene, start, way)
        mine = body == b
        surface.append((start + distance[:, None] * way)[mine])
        owner.append(np.full(mine.sum(), b))
        assert (np.abs(outline[:, :2]) < layout.table_half).all()
    surface, owner = np.concatenate(surface), np.concatenate(owner)
    assert len(surface) > 200 * count
    for b, p in objects:
        linear, shift = p.turn * p.scale, np.array(p.position)
        near = (owner != b) & (np.abs(surface - p.outline().mean(0)) < np.ptp(p.outline(), axis=0)).all(1)
        for primitive in p.body.primitives:
            assert not inside(primitive, surface[near], linear, shift).any(), layout.labels[p.id]


def test_objects_stand_and_lean_on_others():
    layout = lay(40, 0)
    scene = layout.pack()
    on_object = leaning = 0
    for b, p in enumerate(layout.placed):
        if not 0 < p.id <= 40:
            continue
        z = p.position[2]
        if p.turn[2, 2] > 0.999:
            start = np.array([p.position]) - [0, 0, 5e-5]
            distance, below = cast(scene, start, np.array([[0.0, 0, -1]]))
            assert distance[0] < 2e-3 and below[0] not in (b, -1), layout.labels[p.id]
            on_object += below[0] > 0
        else:
            # A leaning book: points on its back reach the gift box within 2 mm.
            grid = np.stack(np.meshgrid(np.linspace(-0.14, 0.14, 15), np.linspace(-0.199, 0.199, 200), [-1e-6]), -1)
            back = grid.reshape(-1, 3) @ p.turn.T + p.position
            distance, hit = cast(scene, back, np.broadcast_to(-p.turn[:, 2], back.shape))
            boxes = [i for i, q in enumerate(layout.placed) if "gift box" in layout.labels.get(q.id, "")]
            assert distance[np.isin(hit, boxes)].min() < 2e-3
            assert 0 < back[:, 2].min() < 2e-3 and z > 0.1
            leaning += 1
    assert on_object >= 6 and leaning >= 2


def test_scenes_hold_many_kinds_and_repeat_some_in_other_colours():
    for count, kinds in ((14, 9), (20, 12), (40, 20)):
        labels = [v for k, v in lay(count, 0).labels.items() if k <= count]
        names = [v.split(" ", 1)[1] for v in labels]
        assert len(set(names)) >= kinds and len(set(names)) < count
        assert all(v.split(" ", 1)[0] in COLOURS for v in labels)
    assert len(KINDS) >= 16
    assert len(set(lay(MAX_OBJECTS, 0).labels.values())) == MAX_OBJECTS + 1
    with pytest.raises(UserError, match="--objects"):
        lay(MAX_OBJECTS + 1, 0)


def test_cameras_stand_in_the_room_and_look_at_the_table():
    layout = lay(14, 0)
    for views in (2, 20, 80):
        poses = orbit(views, layout.table_half, 0)
        turn, eye = poses[:, :, :3], poses[:, :, 3]
        np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turn.shape), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(turn), 1)
        half, _, ceiling = layout.room
        assert (
            (np.abs(eye[:, :2]) < 0.85 * half).all() and (eye[:, 2] < 0.9 * ceiling).all() and (eye[:, 2] > 0.3).all()
        )
        aim = np.einsum("vi,vi->v", turn[:, :, 2], eye / np.linalg.norm(eye, axis=1, keepdims=True))
        assert (aim > 0.99).all()
        _, body = cast(layout.pack(), eye, -turn[:, :, 2])
        assert (body >= 0).all()
