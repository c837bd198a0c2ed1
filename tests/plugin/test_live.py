"""The scene of a model in training: a value, new only when its tensors have changed."""

from dataclasses import fields, is_dataclass

import torch
from tiny_model import attach, training_step

from ag2_ns.plugin.live import CaptureViews, capture_views


def tensors(value, name="scene"):
    """Every tensor of a scene with its name."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif is_dataclass(value):
        for f in fields(value):
            yield from tensors(getattr(value, f.name), f"{name}.{f.name}")


def copies(scene):
    return {name: tensor.clone() for name, tensor in tensors(scene)}


def test_the_same_scene_while_nothing_changes(loaded):
    live = loaded.pipeline.live
    scene = live.scene()
    loaded.model.train()
    loaded.model.eval()
    loaded.session.outputs(scene.view("view_01.png"))
    assert live.scene() is scene


def test_a_new_scene_whenever_a_tensor_has_changed(loaded):
    live, model = loaded.pipeline.live, loaded.model
    seen = [live.scene()]
    with torch.no_grad():
        for parameter in (*model.child_params.values(), model.anchor_params["feature"]):
            parameter.add_(0.01)  # in place, as optimizers do
            seen.append(live.scene())
    index = model.scene_index()
    model.set_scene_index(None)
    seen.append(live.scene())
    assert seen[-1].index is None
    model.set_scene_index(index)
    seen.append(live.scene())
    keep = torch.ones(len(model.child_anchor), dtype=torch.bool)
    keep[:4] = False
    model.restructure(torch.ones(len(model.anchor_xyz), dtype=torch.bool), keep, None, None, {})
    seen.append(live.scene())
    assert len({id(scene) for scene in seen}) == len(seen)
    assert len(seen[-1].gaussians) == len(seen[0].gaussians) - 4
    assert live.scene() is seen[-1]


def test_the_scene_after_a_step_is_that_of_the_step(loaded):
    """Fused optimizers do not say that they have changed a parameter."""
    model = loaded.model
    optimizers = attach(model, steps=100)
    for step in range(4):
        training_step(model, optimizers, step)
        scene = loaded.pipeline.live.scene()
        for name, tensor in tensors(model.gaussians().detach()):
            assert torch.equal(tensor, dict(tensors(scene.gaussians))[name]), (step, name)
        assert torch.equal(scene.background, model.background_color)


def test_an_index_of_other_gaussians_is_none(loaded):
    index = loaded.model.scene_index()
    keep = torch.ones(len(loaded.model.child_anchor), dtype=torch.bool)
    keep[:4] = False
    loaded.model.restructure(torch.ones(len(loaded.model.anchor_xyz), dtype=torch.bool), keep, None, None, {})
    loaded.model.set_scene_index(index)
    assert loaded.scene.index is None


def test_training_does_not_change_a_scene_that_was_handed_out(loaded):
    """nerfstudio trains in one thread while the viewer's threads look at the scene."""
    model = loaded.model
    scene = loaded.scene
    before = copies(scene)
    assert len(before) > 15
    optimizers = attach(model, steps=100)
    for group in optimizers.values():
        group.param_groups[0]["lr"] = 0.1
    for step in range(3):
        training_step(model, optimizers, step)
    model.reset_opacity()
    assert not torch.equal(model.gaussians().means, before["scene.gaussians.means"]), "it was trained"
    assert loaded.scene is not scene
    for name, tensor in tensors(scene):
        assert torch.equal(tensor, before[name]), name
        assert not tensor.requires_grad, name


def test_cameras_are_computed_when_they_are_asked_for(loaded):
    views = loaded.scene.views
    assert isinstance(views, CaptureViews)
    expected = capture_views(loaded.model, loaded.pipeline.datamanager)
    assert len(views) == len(expected) == 9 and views[1:3] == tuple(views)[1:3]
    assert [v.split for v in views] == ["train"] * 6 + ["eval"] * 3
    assert [v.name for v in views] == [v.name for v in expected]


def test_a_finished_scene_says_how_it_was_made(loaded):
    scene = loaded.pipeline.live.finished("ag2aussian-small", 7, {"instances": 1.239})
    made = scene.provenance
    assert made["method"] == "ag2aussian-small" and made["steps"] == 7 and made["seconds"] == {"instances": 1.24}
    assert isinstance(scene.views, tuple) and len(scene.views) == 9
