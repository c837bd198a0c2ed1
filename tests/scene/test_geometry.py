import numpy as np
import pytest
import torch
from box_facts import THINGS, box_facts, camera, tabletop

from ag2_ns.core.view import View
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.scene.geometry import Seen, things_of
from ag2_ns.scene.up_axis import camera_up, find_up, upright_frame

NAMES = [t[3] for t in THINGS]


@pytest.fixture(scope="module")
def facts():
    return tabletop()[0]


def at(matrix, a, b):
    return float(matrix[NAMES.index(a), NAMES.index(b)])


def test_what_stands_on_what(facts):
    assert at(facts.on, "green mug", "red book") > 0.8
    assert at(facts.on, "red mug", "table") > 0.8
    assert at(facts.on, "green mug", "table") < 0.3 < at(facts.carried, "green mug", "table") < 0.7
    assert at(facts.on, "red book", "green mug") < 0.05
    assert at(facts.above, "green mug", "table") > 0.4


def test_near_and_far_fall_and_rise_with_distance(facts):
    assert at(facts.near, "red mug", "red book") > at(facts.near, "red mug", "yellow apple")
    assert at(facts.far, "red mug", "yellow apple") > at(facts.far, "red mug", "red book")
    assert at(facts.near, "green mug", "red book") < 0.5  # it stands on it
    assert np.allclose(facts.gap, facts.gap.T) and not facts.gap.diagonal().any()


def test_between(facts):
    score = facts.between(NAMES.index("red book"), NAMES.index("blue book"))
    assert NAMES[int(score.argmax())] == "red mug" and score.max() > 0.9
    assert score[NAMES.index("white lamp")] < 0.5


def test_large_things_are_furniture(facts):
    assert facts.is_thing[NAMES.index("table")] < 0.3
    assert (facts.is_thing[1:] > 0.9).all()


def test_leaning_needs_touch_and_tilt():
    turn = np.radians(20)
    facts = box_facts([("brown", (0, 0, -0.05), (4, 3, 0.1)), ("pink", (0, 0, 0.2), (0.4, 0.4, 0.4)),
                       ("blue", (0, 0, 0), (0.4, 0.06, 0.5)), ("red", (1, 0, 0.2), (0.3, 0.3, 0.4))], 12)  # fmt: skip
    c, s = np.cos(turn), np.sin(turn)
    tilted = facts.points[2] @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]).T
    tilted = tilted - tilted.min(0) + np.array([-0.2, -0.44, 0])
    points = [*facts.points[:2], tilted, facts.points[3]]
    low, high = (np.array([f(p, 0) for p in points]) for f in (np.min, np.max))
    boxes = [type(b)((lo + hi) / 2, b.axes, hi - lo) for b, lo, hi in zip(facts.boxes, low, high)]
    facts = type(facts)(facts.nodes, facts.frame, points, low, high, boxes, facts.colours)
    assert facts.tilt[2] > 0.9 and facts.tilt[1] < 0.2
    assert facts.leaning[2, 1] > 0.5
    assert facts.leaning[1, 2] < 0.3 and facts.leaning[3, 1] < 0.05


def test_inside_a_bowl():
    facts = box_facts([("white", (0, 0, 0.1), (0.5, 0.5, 0.2)), ("red", (0, 0, 0.1), (0.15, 0.15, 0.15)),
                       ("blue", (1, 0, 0.1), (0.15, 0.15, 0.15))])  # fmt: skip
    assert facts.inside[1, 0] > 0.8 and facts.inside[2, 0] == 0 and facts.inside[0, 1] == 0


def test_left_and_right_are_opposites(facts):
    seen = Seen.by(facts, camera())
    right = seen.right_of(facts)
    assert at(right, "blue book", "red book") > 0.8 and at(right, "red book", "blue book") < 0.05
    front = seen.in_front_of(facts)
    assert at(front, "red mug", "white lamp") > 0.5 > at(front, "white lamp", "red mug")
    other = Seen.by(facts, camera(eye=(0, 5, 2)))
    assert at(other.right_of(facts), "red book", "blue book") > 0.8


def test_a_camera_that_looks_straight_down(facts):
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    pose[:3, 3] = (0, 0, 5)
    view = View(torch.tensor(pose).float(), torch.eye(3), 640, 480)
    right = Seen.by(facts, view).right_of(facts)
    assert at(right, "blue book", "red book") > 0.8


def ring(up=(0.0, 0, 1.0), count=12):
    frame = upright_frame(np.array(up, float))
    return [camera_in(frame, a) for a in np.linspace(0, 2 * np.pi, count, endpoint=False)]


def camera_in(frame, angle):
    view = camera(eye=(3 * np.cos(angle), 3 * np.sin(angle), 1.5))
    pose = view.viewmat.double().numpy()
    turned = np.eye(4)
    turned[:3, :3], turned[:3, 3] = pose[:3, :3] @ frame, pose[:3, 3]
    return View(torch.tensor(turned).float(), view.K, view.width, view.height)


@pytest.mark.parametrize("up", [(0, 0, 1), (0, 1, 0), (0.3, -0.5, 0.8), (0, 0, -1)])
def test_the_cameras_vertical(up):
    up = np.array(up, float) / np.linalg.norm(up)
    assert camera_up(ring(up)) @ up > 0.9999
    assert camera_up([]) is None


def test_a_table_top_corrects_the_cameras():
    true = np.array([0.1, 0.05, 1.0])
    true /= np.linalg.norm(true)
    g = torch.Generator().manual_seed(0)
    flat = torch.cat([2 * torch.rand(3000, 2, generator=g) - 1, 0.002 * torch.randn(3000, 1, generator=g)], 1)
    ball = 0.3 * torch.randn(1500, 3, generator=g) + torch.tensor([0, 0, 0.5])
    points = torch.cat([flat, ball]) @ torch.tensor(upright_frame(true)).float()
    found = find_up(points, torch.ones(len(points)), ring())
    assert found @ true > 0.9998
    assert find_up(points[:10], torch.ones(10), ring()) @ np.array([0, 0, 1.0]) > 0.999


def test_facts_of_a_scene(blob_run):
    import ag2_ns
    from ag2_ns.query.sentence.query import facts_of

    scene = ag2_ns.open(blob_run)
    facts = facts_of(scene)
    assert facts.nodes == (1, 4, 5, 6) and facts.up @ np.array([0, 0, 1.0]) > 0.99
    assert np.allclose(facts.centre[0] @ facts.frame, (0.35, 0, 0.12), atol=0.03)
    assert np.allclose(facts.size[:3], 0.2, atol=0.04)
    assert facts.colours.argmax(1)[:3].tolist() == [0, 3, 4]
    assert facts_of(scene) is facts


def test_a_group_with_anchors_of_its_own_is_no_thing():
    """0: a group of the objects 1 and 2, which do not hold all its anchors; 3: a group that nothing was found in."""
    tree = InstanceTree(
        torch.tensor([-1, 0, 0, -1]), torch.tensor([2, 1, 2, 3]), torch.tensor([0.75, 0.5, 0.5, 0.75]),
        torch.tensor([3, 1, 1, 1]), torch.ones(4), torch.arange(4), torch.ones(4, dtype=torch.bool),
    )  # fmt: skip
    assert tree.instances(0.5).tolist() == [0, 1, 2, 3]
    assert things_of(tree) == [1, 2, 3] and things_of(tree, 1.0) == [0, 3]


def test_no_things_no_facts():
    facts = box_facts([])
    assert len(facts) == 0 and facts.unit == 1.0 and facts.on.shape == (0, 0)
