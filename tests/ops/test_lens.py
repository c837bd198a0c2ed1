import numpy as np
import pytest
import torch
from lens_scene import LENSES, H, W, from_true, psnr, through, true_picture
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.full_images_datamanager import _undistort_image

from ag2_ns.io.colmap import PARAMETERS, camera_of
from ag2_ns.ops.lens import Lens, LensError, Pinhole, distort, maps, undistortion

CAMERA = Pinhole(*(float(np.float32(v)) for v in (117.3, 118.1, 58.7, 46.2)), W, H)


def nerfstudios(kind, terms, camera, image, mask):
    """What nerfstudio's own datamanager serves."""
    c = Cameras(
        torch.eye(4)[:3], camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height,
        torch.tensor(terms), kind,
    ).reshape(())  # fmt: skip
    data = {"mask": torch.from_numpy(mask)[..., None]}
    return _undistort_image(c, c.distortion_params.numpy(), data, image, c.get_intrinsics_matrices().numpy())


@pytest.mark.parametrize(
    "fisheye, terms",
    [
        (False, (0.15, 0.02, 0, 0, 0.002, -0.001)),
        (False, (-0.1, 0.02, -0.01, 0, 0, 0)),
        (False, (-0.3, 0.1, 0, 0, 0.01, 0.01)),
        (True, (0.06, -0.02, 0.03, -0.05, 0, 0)),
        (True, (-0.1, 0.02, 0, 0, 0, 0)),
    ],
)
def test_what_nerfstudio_undoes_is_the_same_to_the_bit(fisheye, terms):
    image, mask = true_picture(0), true_picture(1)[..., 0] > 120
    K, picture, straight_mask = nerfstudios(
        CameraType.FISHEYE if fisheye else CameraType.PERSPECTIVE, terms, CAMERA, image, mask
    )
    k1, k2, k3, k4, p1, p2 = (float(np.float32(v)) for v in terms)
    lens = Lens("fisheye", (k1, k2, k3, k4)) if fisheye else Lens("opencv", (k1, k2, p1, p2, k3, 0, 0, 0))
    found = undistortion(lens, CAMERA)
    assert np.array_equal(found.picture(image), picture)
    assert np.array_equal(found.mask(mask), straight_mask[..., 0].numpy())
    c = found.camera
    expected = (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    assert [np.float32(v) for v in (c.fx, c.fy, c.cx, c.cy)] == [np.float32(v) for v in expected]
    assert (c.height, c.width) == picture.shape[:2]


@pytest.mark.parametrize("model", LENSES)
def test_every_model_against_formulas_of_its_own(model):
    formula, (fx, fy, cx, cy), c = LENSES[model]
    parameters = [fx, cx, cy, *c] if PARAMETERS[model][1] == 1 else [fx, fy, cx, cy, *c]
    camera, lens = camera_of(model, W, H, parameters)
    x, y = np.meshgrid(np.linspace(-0.6, 0.6, 13), np.linspace(-0.5, 0.5, 11))
    for got, expected in zip(distort(lens, x, y), formula(x, y, *c)):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    found = undistortion(lens, camera)
    expected, seen = from_true(true_picture(3), found.camera)
    assert psnr(found.picture(through(true_picture(3), model)), expected, seen) > 30 and seen.mean() > 0.5


@pytest.mark.parametrize("model", ["OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE", "FOV", "THIN_PRISM_FISHEYE"])
def test_maps_labels_and_pictures_agree(model):
    camera, lens = camera_of(model, W, H, [*LENSES[model][1], *LENSES[model][2]])
    found = undistortion(lens, camera)
    ramp = np.repeat(np.arange(W, dtype=np.float32)[None], H, 0)[..., None].copy()
    inner = (slice(4, -4), slice(4, -4))
    x, y = maps(found)
    assert x.shape == y.shape == (found.camera.height, found.camera.width)
    assert np.abs(found.picture(ramp)[..., 0] - x)[inner].max() < 0.03
    assert np.abs(found.labels(ramp)[..., 0] - x)[inner].max() <= 0.51
    ids = np.arange(W * H, dtype=np.int64).reshape(H, W) + 1
    assert set(np.unique(found.labels(ids))) <= set(np.unique(ids)) | {0}, "no new ids"


def test_a_straight_camera_is_left_alone():
    found = undistortion(Lens("opencv", (0.0,) * 8), CAMERA)
    image = true_picture(0)
    assert found.route == "none" and found.camera == CAMERA and found.picture(image) is image


def test_a_fisheye_without_terms_is_no_pinhole():
    found = undistortion(Lens("fisheye", (0.0,) * 4), Pinhole(40.0, 40.0, 60.0, 45.0, W, H))
    half = np.degrees(np.arctan(found.camera.cx / found.camera.fx))
    assert half == pytest.approx(60, abs=0.1), "of 86 degrees; as a pinhole it would have shown 56"
    assert found.camera.cx == W / 2


@pytest.mark.parametrize("model", ["fisheye", "thin_prism_fisheye", "fisheye624", "fov"])
def test_very_wide_lenses_show_their_middle(model):
    """200 degrees cannot be straight; the part in the middle can."""
    focal = W / np.radians(200)
    coefficients = {"fisheye": 4, "thin_prism_fisheye": 8, "fisheye624": 12}.get(model)
    lens = Lens(model, (0.0,) * coefficients if coefficients else (2.0,))
    found = undistortion(lens, Pinhole(focal, focal, W / 2, H / 2, W, H))
    reach = np.degrees(np.arctan(found.camera.width / 2 / found.camera.fx))
    assert 40 < reach <= 70.1


@pytest.mark.parametrize(
    "lens",
    [Lens("opencv", (-2.5, 0, 0, 0, 0, 0, 0, 0)), Lens("polynomial", (-3.0, 0, 0, 0.1, 0, 0))],
)
def test_a_lens_that_folds_the_picture_is_refused(lens):
    with pytest.raises(LensError, match="folds the picture"):
        undistortion(lens, Pinhole(40.0, 40.0, 60.0, 45.0, W, H))


def test_a_centre_outside_of_the_picture_is_refused():
    with pytest.raises(LensError, match="outside of the picture"):
        undistortion(Lens("fov", (0.9,)), Pinhole(100.0, 100.0, -500.0, 45.0, W, H))


def test_coefficients_are_counted():
    with pytest.raises(ValueError, match="8 coefficients"):
        Lens("opencv", (0.1,))
