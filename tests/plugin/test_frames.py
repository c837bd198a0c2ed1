"""In which frame a splat lies: by what the pictures show."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_scene import make

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.io.ply import write_gaussians
from ag2_ns.ops.similarity import Similarity
from ag2_ns.plugin.dataparser import FILE_FRAME, OFFSET
from ag2_ns.plugin.frames import fit_of, in_run_frame
from ag2_ns.rendering import render
from ag2_ns.rendering.choose import choose_rasterizer

TURN = Similarity.about((0.2, -0.1, 0.3), (0.8, 0.1, -0.5, 0.3), 0.4, (0.5, 0.2, -0.3))
"""From the world to the run's frame."""

APPLIED = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]])
FAR = torch.tensor([441547.502, 5121946.513, 2345.087], dtype=torch.double)


@pytest.fixture(scope="module")
def scene():
    """A pipeline's parts over a toy scene whose own coordinates are the run's."""
    toy = make(objects=4, views=5, width=64, height=48, floaters=0)
    colour = torch.rand(10, 3, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
    gaussians = Gaussians(*(getattr(toy.gaussians, f) for f in ("means", "quats", "scales", "opacities")),
                          colour[toy.owner.clamp_min(0)][:, None])  # fmt: skip
    backend = choose_rasterizer("cpu", torch.device("cpu"))
    pictures = [render(gaussians, view, backend, depth=False).rgb.clamp(0, 1) for view in toy.views]
    return gaussians, toy.views, pictures, backend


def pipeline(scene, monkeypatch, offset=None):
    _gaussians, views, pictures, backend = scene
    offset = torch.zeros(3, dtype=torch.double) if offset is None else offset
    matrix = lambda s: torch.cat([s.rotation, s.translation[:, None] / s.scale], 1)  # noqa: E731
    far = Similarity(torch.eye(3, dtype=torch.double), 1.0, -offset)
    world = far.then(TURN)
    applied = torch.from_numpy(APPLIED)
    own = Similarity(applied[:, :3], 1.0, applied[:, 3]).inverse().then(world)
    outputs = SimpleNamespace(
        dataparser_transform=matrix(world), dataparser_scale=world.scale,
        metadata={OFFSET: offset, FILE_FRAME: (matrix(own), own.scale)},
    )  # fmt: skip
    monkeypatch.setattr("ag2_ns.plugin.frames.view_of", lambda row: views[row.start])

    class Rows:
        def to(self, device):
            return self

        def __getitem__(self, key):
            return key

    manager = SimpleNamespace(
        cached_train=[{"image": p} for p in pictures], train_dataset=SimpleNamespace(cameras=Rows()),
        train_dataparser_outputs=outputs,
    )  # fmt: skip
    model = SimpleNamespace(device="cpu", backend=lambda: backend, get_gt_img=lambda image: image, extent=3.0)
    return SimpleNamespace(datamanager=manager, model=model), {
        "run": Similarity.identity(),
        "world": world,
        "file": own,
    }


@pytest.mark.parametrize("frame", ["run", "world", "file"])
def test_the_frame_is_found(frame, scene, tmp_path, monkeypatch):
    """Recipe 5."""
    whole, to_run = pipeline(scene, monkeypatch)
    write_gaussians(tmp_path / "a.ply", to_run[frame].inverse().gaussians(scene[0]))
    lines = []
    found = in_run_frame(tmp_path / "a.ply", tmp_path, "auto", whole, lines.append)
    assert torch.allclose(found.means, scene[0].means, atol=1e-4)
    assert f"lies in the {frame} frame" in lines[0] and "one colour per picture" in lines[0]
    assert fit_of(found, whole).psnr > 30


def test_a_splat_of_a_survey_keeps_its_precision(scene, tmp_path, monkeypatch):
    whole, _to_run = pipeline(scene, monkeypatch, FAR)
    near = TURN.inverse().gaussians(scene[0])
    write_gaussians(tmp_path / "a.ply", near, offset=tuple(FAR.tolist()))
    found = in_run_frame(tmp_path / "a.ply", tmp_path, "auto", whole, lambda line: None)
    assert torch.allclose(found.means, scene[0].means, atol=1e-4)


def test_what_looks_like_no_picture_is_refused(scene, tmp_path, monkeypatch):
    """The better of bad fits is no answer: one colour per picture fits better."""
    whole, _ = pipeline(scene, monkeypatch)
    elsewhere = Similarity.about((0, 0, 0), (0.3, 0.9, 0.1, 0.2), 1.7, (1.0, 2.0, 3.0))
    write_gaussians(tmp_path / "a.ply", elsewhere.gaussians(scene[0]))
    with pytest.raises(UserError, match=r"in no frame \(PSNR in dB: run .*one colour per picture .* --data") as error:
        in_run_frame(tmp_path / "a.ply", tmp_path, "auto", whole, lambda line: None)
    assert "\n" not in str(error.value)
    lines = []
    in_run_frame(tmp_path / "a.ply", tmp_path, "world", whole, lines.append)
    assert "does not look like the pictures" in lines[0]


def test_values_that_are_not_what_they_are_taken_for(scene, tmp_path, monkeypatch):
    whole, _ = pipeline(scene, monkeypatch)
    g = scene[0]
    write_gaussians(tmp_path / "a.ply", Gaussians(g.means, g.quats, g.scales.exp(), g.opacities.sigmoid(), g.sh))
    with pytest.raises(UserError, match="scales are all positive as stored, where logarithms are not"):
        in_run_frame(tmp_path / "a.ply", tmp_path, "auto", whole, lambda line: None)
