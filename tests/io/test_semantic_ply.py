from __future__ import annotations

import pytest
import torch
from plyfile import PlyData
from random_gaussians import random_gaussians

from ag2_ns.core.errors import UserError
from ag2_ns.io.ply import read_gaussians, write_gaussians
from ag2_ns.io.semantic_ply import read_semantic_splat, write_semantic_splat


def test_round_trip(tmp_path):
    gaussians, feature = random_gaussians(20), torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "point_cloud.ply"
    write_semantic_splat(path, gaussians, feature)
    again, read = read_semantic_splat(path)
    assert torch.equal(read, feature)
    torch.testing.assert_close(again.means, gaussians.means)
    names = PlyData.read(str(path))["vertex"].data.dtype.names
    assert names[-16:] == tuple(f"semantic_{k}" for k in range(16))
    torch.testing.assert_close(read_gaussians(path).sh, gaussians.sh)  # any viewer opens it


def test_bad_input(tmp_path):
    gaussians = random_gaussians(4)
    with pytest.raises(ValueError, match="3 features for 4 Gaussians"):
        write_semantic_splat(tmp_path / "a.ply", gaussians, torch.zeros(3, 16))
    write_gaussians(tmp_path / "b.ply", gaussians)
    with pytest.raises(UserError, match="has no properties semantic_0"):
        read_semantic_splat(tmp_path / "b.ply")
    write_semantic_splat(tmp_path / "c.ply", gaussians, torch.full((4, 2), float("nan")))
    with pytest.raises(UserError, match="not finite"):
        read_semantic_splat(tmp_path / "c.ply")
