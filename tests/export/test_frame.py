import json

import pytest
import torch
from scipy.spatial.transform import Rotation

from ag2_ns.core.errors import UserError
from ag2_ns.export.frame import FILE_NAME, run_to_world, world_frame


def transform(seed=0):
    R = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    return torch.cat([R, torch.tensor([[0.5], [-2.0], [3.0]], dtype=torch.double)], 1)


def test_inverts_what_the_dataparser_did():
    T, scale = transform(), 0.25
    world = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    run = (world @ T[:, :3].T + T[:, 3]) * scale
    torch.testing.assert_close(world_frame(T, scale).points(run), world)


def test_agrees_with_nerfstudio_on_poses():
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

    T, scale = transform(4).float(), 0.3
    poses = torch.cat([torch.from_numpy(Rotation.random(5, random_state=2).as_matrix()).float(),
                       torch.randn(5, 3, 1, generator=torch.Generator().manual_seed(0))], 2)  # fmt: skip
    outputs = DataparserOutputs(
        [], Cameras(poses, 1.0, 1.0, 1.0, 1.0, 2, 2), dataparser_transform=T, dataparser_scale=scale
    )
    theirs = outputs.transform_poses_to_original_space(poses, camera_convention="opengl")
    frame = world_frame(T, scale)
    torch.testing.assert_close(frame.points(poses[:, :, 3]), theirs[:, :, 3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(frame.rotation.float() @ poses[:, :, :3], theirs[:, :, :3], atol=1e-4, rtol=1e-4)


def test_reads_the_file_beside_the_config(tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps({"transform": transform().float().tolist(), "scale": 0.5}))
    frame = run_to_world(tmp_path / "config.yml")
    expected = world_frame(transform(), 0.5)
    torch.testing.assert_close(frame.rotation, expected.rotation, atol=1e-6, rtol=0)
    assert frame.scale == pytest.approx(2.0)
    torch.testing.assert_close(frame.rotation @ frame.rotation.T, torch.eye(3, dtype=torch.double))


def test_a_scale_inside_the_matrix_is_taken_along():
    T = transform()
    T[:, :3] *= 2
    x = torch.ones(1, 3, dtype=torch.double)
    torch.testing.assert_close(world_frame(T, 0.5).points((x @ T[:, :3].T + T[:, 3]) * 0.5), x)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"transform": [[1, 2], [3, 4]], "scale": 1}',
        '{"transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], "scale": 1}',
        '{"transform": [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0]], "scale": 1}',
        '{"transform": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": 0}',
        '{"transform": [[1, 0, 0, NaN], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": 1}',
    ],
)
def test_damaged_files_are_one_line(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(UserError, match=f"{FILE_NAME}: not usable.*without --world") as error:
        run_to_world(tmp_path / "config.yml")
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="original world frame is unknown"):
        run_to_world(tmp_path / "config.yml")
