"""A loaded run on a GPU: everything that it is asked for must live there."""

import pytest
import torch
import yaml

import ag2_ns
from ag2_ns.plugin.run import load_run
from ag2_ns.query.text import Text

pytestmark = pytest.mark.gpu


@pytest.fixture
def run(blob_run):
    config = yaml.load(blob_run.read_text(), Loader=yaml.Loader)
    config.machine.device_type, config.pipeline.model.rasterizer = "cuda", "auto"
    blob_run.write_text(yaml.dump(config))
    return load_run(blob_run)


def test_the_index_is_loaded_to_the_device_of_the_model(run):
    assert run.model.device.type == "cuda"
    assert all(value.is_cuda for value in run.model.index.get().values())
    assert run.scene.index.anchor_xyz.is_cuda and run.scene.index.tree.parent.is_cuda


def test_texts_clicks_and_pictures(run):
    red = ag2_ns.open(run.folder).select(text="red ball").selection
    assert int(red.anchor_mask.sum()) == 90 and red.gaussian_mask.is_cuda
    session = run.session
    session.ask(Text("red ball"))
    cameras = run.pipeline.datamanager.train_dataset.cameras[:1].to("cuda")
    out = run.model.get_outputs_for_camera(cameras)
    assert all(out[name].is_cuda and torch.isfinite(out[name]).all() for name in ("rgb", "selection_overlay", "depth"))
    assert (out["selection"] > 0.5).any()
