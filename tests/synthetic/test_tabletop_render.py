import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from ag2_ns.synthetic.tabletop.layout import lay, orbit, table_body
from ag2_ns.synthetic.tabletop.raytrace import cast
from ag2_ns.synthetic.tabletop.render import light_up, render
from ag2_ns.synthetic.tabletop.shapes import Body, Material, Placed, pack, rotation

FLAT = Material((0.6, 0.05, 0.05), grain=0.0, specular=0.0)


@pytest.fixture(scope="module")
def boxed():
    """A table with one red box in its middle, lit from -x and above."""
    body = Body().box((0, 0, 0.15), (0.1, 0.1, 0.15), FLAT)
    placed = [
        Placed(table_body(0.6, -0.8), (0, 0, 0), np.eye(3), 1.0, 2),
        Placed(body, (0, 0, 1e-4), np.eye(3), 1.0, 1),
    ]
    light = np.array([[-1.0, 0.0, 1.4], [0.2, 0.0, 0.0], [0.0, 0.2, 0.0]])
    return light_up(pack(placed, (2.5, -0.8, 2.0)), light, 0.6, 1.0, 96)


def down(height: float) -> np.ndarray:
    """A camera over the origin, looking down, its right along x."""
    return np.concatenate([np.eye(3), [[0.0], [0.0], [height]]], axis=1)


def test_shadows_fall_away_from_the_light_and_are_soft(boxed):
    seen, free = boxed.table_map[..., 0], boxed.table_map[..., 1]
    # Rows run along y, columns along x; texel of x = 0.18, y = 0 lies in the umbra, x = -0.18 in the light.
    at = lambda x, y: (int((y / 0.6 + 1) / 2 * 96), int((x / 0.6 + 1) / 2 * 96))  # noqa: E731
    assert seen[at(0.18, 0.0)] < 0.02 and seen[at(-0.18, 0.0)] > 0.98 and seen[at(0.0, 0.4)] > 0.98
    assert ((seen > 0.1) & (seen < 0.9)).sum() > 60
    assert free[at(-0.13, 0.0)] < 0.85 < free[at(-0.5, 0.4)]
    # The table shades the floor under it.
    middle = boxed.floor_map[48, 48]
    assert middle[0] < 0.1 and boxed.floor_map[5, 90, 0] > 0.98


def test_picture_shows_light_shadow_and_colour(boxed):
    frame = render(boxed, down(1.6), 120.0, 96, 96)
    assert set(np.unique(frame.ids)) == {0, 1, 2}
    bright = frame.rgb.astype(float).sum(2)
    scale = 120.0 / 1.6
    column = lambda x: int(48 + x * scale)  # noqa: E731
    assert bright[48, column(0.2)] < 0.75 * bright[48, column(-0.3)]
    red = frame.rgb[frame.ids == 1].mean(0)
    assert red[0] > 2 * red[1] and red[0] > 2 * red[2]


def test_colours_are_antialiased_and_ids_are_not(boxed):
    pose = down(1.6)
    pose[:, :3] = rotation("z", 20.0)
    frame = render(boxed, pose, 123.4, 97, 97)
    assert set(np.unique(frame.ids)) == {0, 1, 2}
    red = frame.rgb[..., 0].astype(int) - frame.rgb[..., 1]
    box = frame.ids == 1
    core, border = binary_erosion(box, iterations=3), binary_dilation(box) & ~binary_erosion(box)
    mixed = (red < red[core].min() - 8) & (red > 50)
    assert mixed[border].mean() > 0.25 and not mixed[core].any()
    # The box's top is 0.2 wide, 1.3 from the camera.
    assert abs(np.sqrt(box.sum()) - 0.2 * 123.4 / 1.3) < 1.0


def test_distances_and_primitives_are_those_of_the_centre_rays():
    layout = lay(5, 2)
    lit = light_up(layout.pack(), layout.light, layout.table_half, layout.rug_half, 64)
    pose = orbit(6, layout.table_half, 2)[3]
    frame = render(lit, pose, 60.0, 64, 48)
    v, u = np.mgrid[:48, :64]
    rays = np.stack([(u + 0.5 - 32) / 60, -(v + 0.5 - 24) / 60, -np.ones_like(u)], -1).reshape(-1, 3) @ pose[:, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    distance, body = cast(lit.scene, np.broadcast_to(pose[:, 3], rays.shape), rays)
    np.testing.assert_allclose(frame.distance.ravel(), distance, rtol=1e-6)
    owner = np.searchsorted(lit.scene.first, frame.primitive.ravel(), side="right") - 1
    np.testing.assert_array_equal(np.where(frame.primitive.ravel() < 0, -1, owner), body)
