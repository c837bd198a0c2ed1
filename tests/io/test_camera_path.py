"""Camera paths of nerfstudio's viewer."""

import json
import math

import numpy as np
import pytest
import torch
from blob_run import ring_pose

from ag2_ns.core.errors import MissingFile, UserError
from ag2_ns.io.camera_path import read_camera_path

CAMERAS = [{"camera_to_world": ring_pose(k).flatten().tolist(), "fov": 50, "aspect": 1.5} for k in range(3)]
PATH = {"render_width": 60, "render_height": 40, "camera_path": CAMERAS, "seconds": 1.5}


def written(folder, content):
    path = folder / "path.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_cameras_as_the_viewer_means_them(tmp_path):
    views, fps = read_camera_path(written(tmp_path, PATH))
    assert len(views) == 3 and fps == pytest.approx(2.0)
    for k, view in enumerate(views):
        pose = ring_pose(k)
        assert (view.width, view.height) == (60, 40)
        eye = -view.viewmat[:3, :3].T @ view.viewmat[:3, 3]
        np.testing.assert_allclose(eye, pose[:3, 3], atol=1e-5)
        ahead = view.viewmat[:3, :3] @ torch.tensor(-pose[:3, 2], dtype=torch.float32)  # nerfstudio looks along -z
        torch.testing.assert_close(ahead, torch.tensor([0.0, 0, 1]), atol=1e-5, rtol=0)
        half = math.degrees(math.atan(view.height / 2 / float(view.K[1, 1])))
        assert half == pytest.approx(25) and float(view.K[0, 0]) == float(view.K[1, 1])
        assert view.K[:2, 2].tolist() == [30, 20]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "not a camera path"),
        ("[]", "not a camera path"),
        ({"render_width": 3}, "not a camera path"),
        (PATH | {"camera_path": [{"fov": 50}]}, "not a camera path"),
        (PATH | {"camera_path": [CAMERAS[0] | {"camera_to_world": [0.0] * 16}]}, "not a camera path"),
        (PATH | {"camera_path": []}, "no cameras in it; add key frames"),
        (PATH | {"camera_type": "equirectangular"}, "only perspective cameras"),
    ],
)
def test_what_is_no_camera_path_is_one_line(content, words, tmp_path):
    with pytest.raises(UserError, match=rf"path\.json: .*{words}") as error:
        read_camera_path(written(tmp_path, content))
    assert "\n" not in str(error.value) and "Render tab" in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(MissingFile, match=r"path\.json: no such file"):
        read_camera_path(tmp_path / "path.json")
