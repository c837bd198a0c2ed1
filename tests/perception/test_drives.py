"""Features and depth of real pictures: encoders with random weights, files, progress and resume."""

import json
from itertools import count

import numpy as np
import pytest
import torch
from shared_data import shared

from ag2_ns.core.errors import UserError
from ag2_ns.io.surround import read_depth, read_drives
from ag2_ns.io.text_table import PROMPTS, read_text_table
from ag2_ns.perception.depth import FAR, LidarDepth, lidar_depth, project_lidar
from ag2_ns.perception.drives import prepare_drives, write_texts
from ag2_ns.perception.patches import ClipPatchEncoder, DinoEncoder
from ag2_ns.plugin.prepare import Prepare


class Flat:
    """Mean colours of 2 x 3 patches."""

    name, settings = "flat", {"encoder": "flat"}

    def __init__(self):
        self.calls = count()

    def patches(self, image):
        next(self.calls)
        return torch.from_numpy(image[:28, :48].reshape(2, 14, 3, 16, 3).mean((1, 3))).movedim(-1, 0).float()

    def texts(self, prompts):
        return torch.eye(len(list(prompts)), 3)


def test_what_is_missing_is_made_and_the_rest_is_kept(street):
    drives = read_drives(street)
    record = drives[0].frames[0]
    for folder in street.glob("drive_*/depth"):
        for file in folder.rglob("*.npy"):
            file.unlink()
    record.file("features", record.cameras[0]).unlink()
    encoder, seen = Flat(), []
    made = prepare_drives(drives, encoder, LidarDepth(), done=seen.append)
    assert (made.features, made.depth, seen) == (1, 18, [1, 2, 3])
    again = prepare_drives(drives, encoder, LidarDepth())
    assert (again.features, again.depth, again.kept) == (0, 0, 18) and next(encoder.calls) == 1
    assert read_depth(record, record.cameras[0]).shape == (28, 48)
    other = Flat()
    other.settings = {"encoder": "other"}
    with pytest.raises(UserError, match="overwrite"):
        prepare_drives(drives, other, None)
    assert prepare_drives(drives, other, None, overwrite=True).features == 18


def test_lidar_depth_is_near_the_true_depth(street):
    record = read_drives(street)[0].frames[0]
    camera = record.cameras[0]
    true, found = read_depth(record, camera).numpy(), lidar_depth(record, camera)
    both = (found < FAR) & (true < 40)
    assert both.mean() > 0.2 and np.median(np.abs(found - true)[both] / true[both]) < 0.1
    pixel, depth = project_lidar(record, camera)
    assert (pixel >= 0).all() and (pixel[:, 0] < 48).all() and (depth > 1).all()


def test_the_command_says_what_it_needs(street, capsys):
    with pytest.raises(UserError, match="--encoder dinov2"):
        Prepare(street).main()
    with pytest.raises(UserError, match="--clip-checkpoint"):
        Prepare(street, encoder="maskclip").main()
    with pytest.raises(UserError, match="--weights"):
        Prepare(street, encoder="dinov2").main()
    with pytest.raises(UserError, match="not for drives"):
        Prepare(street, encoder="palette").main()
    Prepare(street, depth="lidar").main()
    assert "18 whole already" in capsys.readouterr().out


@pytest.fixture(scope="module")
def clip():
    return ClipPatchEncoder("ViT-B-32", None, size=(96, 64))


@pytest.mark.slow
def test_maskclip_with_random_weights(clip, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (56, 96, 3), dtype=np.uint8)
    found = clip.patches(image)
    assert found.shape == (512, 2, 3) and bool(torch.isfinite(found).all())
    write_texts(tmp_path / "text_features.json", clip)
    names, table = read_text_table(tmp_path / "text_features.json")
    assert names == list(PROMPTS) and table.shape == (21, 512)
    # A patch keeps its own value: in the last layer, others do not mix into it.
    visual = clip.model.visual
    first = visual.transformer.resblocks
    visual.transformer.resblocks = torch.nn.ModuleList(list(first)[-1:])
    changed = image.copy()
    changed[:, 64:] = 0
    same = torch.allclose(clip.patches(image)[:, :, :1], clip.patches(changed)[:, :, :1], atol=1e-4)
    visual.transformer.resblocks = first
    assert same


@pytest.mark.slow
def test_dinov2_and_talk2dino_with_random_weights(clip, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2WithRegistersModel(config).save_pretrained(tmp_path / "dino")
    weights = {"linear_layer.weight": torch.randn(24, 512), "linear_layer.bias": torch.zeros(24),
               "linear_layer2.weight": torch.randn(24, 24), "linear_layer2.bias": torch.zeros(24)}  # fmt: skip
    torch.save(weights, tmp_path / "talk.pth")
    encoder = DinoEncoder(tmp_path / "dino", (84, 56), clip, tmp_path / "talk.pth")
    found = encoder.patches(np.zeros((56, 96, 3), np.uint8))
    assert found.shape == (24, 4, 6) and bool(torch.isfinite(found).all())
    expected = torch.tanh(clip.texts(["car"]) @ weights["linear_layer.weight"].T) @ weights["linear_layer2.weight"].T
    assert torch.allclose(encoder.texts(["car"]), expected, atol=1e-4)
    with pytest.raises(UserError, match="Talk2DINO"):
        DinoEncoder(tmp_path / "dino").texts(["car"])
    torch.save({"a.weight": torch.zeros(2, 2)}, tmp_path / "one.pth")
    with pytest.raises(UserError, match="linear layers"):
        DinoEncoder(tmp_path / "dino", text_model=clip, projection=tmp_path / "one.pth")
    with pytest.raises(UserError, match=r"config\.json"):
        DinoEncoder(tmp_path)


def test_settings_are_written(street):
    prepare_drives(read_drives(street)[:1], Flat(), None, overwrite=True)
    assert json.loads((street / "drive_000" / "features" / "made_by.json").read_text()) == {"encoder": "flat"}


def test_depth_of_the_real_frame():
    (record,) = read_drives(shared("nuscenes_sample"))[0].frames
    found = lidar_depth(record, record.cameras[0])
    assert found.shape == (900, 1600) and 0.5 < (found < FAR).mean() < 0.95
    assert found[880:].max() < 12 and (found[:60, 900:1100] == FAR).all(), "road below, sky above"
