from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_run import BLUE, CENTRES, GREEN, RED, TOP

from ag2_ns.core.errors import UserError
from ag2_ns.edit import asking, steps
from ag2_ns.edit.edit_file import FILE_NAME
from ag2_ns.query.text import Text
from ag2_ns.session.appearance import contrast
from ag2_ns.session.run_files import SELECTION_FILE
from ag2_ns.session.session import Fixed, Session

EYE = (0.0, 0.0, 2.0)
KEYS = {
    "rgb", "depth", "accumulation", "background", "feature", "instance", "relevancy", "selection", "selection_overlay",
}  # fmt: skip


def towards(name, shift=(0, 0, 0)):
    return tuple(np.array(CENTRES[name]) + np.array(shift) - np.array(EYE))


def camera(run, i=0):
    return run.pipeline.datamanager.eval_dataset.cameras[i : i + 1]


def show(run, i=0):
    return run.model.get_outputs_for_camera(camera(run, i))


def test_outputs_have_the_same_keys_whatever_is_known(loaded, session):
    model = loaded.model
    plain = show(loaded)
    assert set(plain) == KEYS
    assert plain["relevancy"].max() == 0 and plain["selection"].max() == 0
    assert torch.equal(plain["rgb"], plain["selection_overlay"])
    session.ask(Text("red ball"))
    found = show(loaded)
    model.set_scene_index(None)
    without = show(loaded)
    assert set(found) == set(without) == KEYS
    for name, value in found.items():
        assert value.shape == plain[name].shape == without[name].shape, name
        assert value.is_floating_point() and torch.isfinite(value).all(), name
    assert without["selection"].max() == 0


def test_a_text_selects_what_it_names_and_shows_it(loaded, session):
    found = session.ask(Text("red ball"))
    assert found.nodes == (RED,)
    out = show(loaded)
    inside = out["selection"][..., 0] > 0.5
    red = (out["rgb"][..., 0] > 0.5) & (out["rgb"][..., 1] < 0.3)
    assert inside.sum() > 5
    assert (inside & red).sum() / (inside | red).sum() > 0.6
    assert out["relevancy"][inside].min() > 0.5
    assert out["relevancy"][out["accumulation"][..., 0] < 0.1].max() < 0.2
    assert (out["selection_overlay"][~inside].mean() < 0.6 * out["rgb"][~inside].mean()).all()


def test_a_click_meets_what_is_in_front_and_the_level_decides_how_much(session):
    assert session.click(EYE, towards("green")).nodes == (GREEN,)
    session.set_level(1.0)
    assert session.state.selection.nodes == (0,)
    session.set_level(0.0)
    session.click(EYE, towards("red"))
    assert session.state.selection.nodes == (TOP,)
    session.set_level(0.5)
    assert session.state.selection.nodes == (RED,)


def test_dragging_the_slider_is_one_step(session):
    session.click(EYE, towards("red"))
    for level in (0.4, 0.3, 0.2, 0.0):
        session.set_level(level)
    assert session.state.selection.nodes == (TOP,)
    session.undo()
    assert session.state.selection.nodes == (RED,) and session.state.level == 0.5


def test_typing_on_is_one_step(session, monkeypatch):
    texts = session.texts()
    embed = texts.embed
    monkeypatch.setattr(texts, "embed", lambda text: embed("red ball" if text == "bl" else text))
    session.ask(Text("green ball"))
    session.ask(Text("bl"), continues=True)
    session.ask(Text("blue ball"), continues=True)
    assert session.state.selection.nodes == (BLUE,)
    session.undo()
    assert session.state.selection.nodes == (GREEN,)


def test_clicks_add_and_remove(session):
    session.click(EYE, towards("red"))
    session.click(EYE, towards("blue"), "add")
    assert set(session.state.selection.nodes) == {RED, BLUE}
    session.click(EYE, towards("red"), "remove")
    assert session.state.selection.nodes == (BLUE,)
    session.click(EYE, towards("blue"), "remove")
    assert session.state.selection.empty and session.state.selection.reason


def test_undo_and_redo_go_through_selections_and_edits(session):
    session.ask(Text("red ball"))
    everything = len(session.edited())
    session.edit(*steps.delete(session.edited(), session.require_selection(), None), keep_selection=False)
    assert len(session.edited()) < everything and session.state.selection is None
    session.ask(Text("blue ball"))
    session.undo()
    session.undo()
    assert session.state.selection.nodes == (RED,) and len(session.edited()) == everything
    session.undo()
    assert session.state.selection is None
    with pytest.raises(UserError, match="nothing to undo"):
        session.undo()
    for _ in range(3):
        session.redo()
    assert session.state.selection.nodes == (BLUE,) and len(session.edited()) < everything
    with pytest.raises(UserError, match="nothing to redo"):
        session.redo()


def test_training_goes_on_while_an_answer_is_computed(loaded, session, monkeypatch):
    held = []

    @contextmanager
    def hold():
        held.append(True)
        yield
        held.pop()

    def ask(*question):
        assert not held
        for parameter in loaded.model.child_params.values():
            parameter.add_(1.0)  # as an optimizer does
        try:
            return asking.ask(*question)
        finally:
            for parameter in loaded.model.child_params.values():
                parameter.sub_(1.0)

    loaded.model.train()
    still = session.click(EYE, towards("green"))
    session.hold = hold
    monkeypatch.setattr("ag2_ns.session.session.ask", ask)
    again = session.click(EYE, towards("green"))
    assert again.nodes == still.nodes == (GREEN,) and again.score == still.score


def test_an_answer_is_asked_again_if_the_state_has_changed_meanwhile(session, monkeypatch):
    session.click(EYE, towards("green"))
    asked = []

    def ask(*question):
        asked.append(question)
        if len(asked) == 1:
            session.click(EYE, towards("red"))  # by somebody in another tab
        return asking.ask(*question)

    monkeypatch.setattr("ag2_ns.session.session.ask", ask)
    session.click(EYE, towards("blue"), "add")
    assert set(session.state.selection.nodes) == {RED, BLUE}
    session.undo()
    assert session.state.selection.nodes == (RED,)
    session.undo()
    assert session.state.selection.nodes == (GREEN,)


def test_an_amended_step_survives_undo_and_redo(session):
    session.ask(Text("red ball"))
    quick = steps.delete(session.edited(), session.require_selection(), None)
    session.edit(*quick)
    better = steps.delete(session.edited(), session.ask(Text("green ball")), None)
    session.undo()
    session.undo()
    assert session.amend(quick, better)
    assert session.state.history.edits == ()
    session.redo()
    assert session.state.history.edits == better
    assert not session.amend(quick, better)


def test_clicks_between_the_pictures_of_a_training_mean_what_the_pictures_show(loaded, session):
    session.ask(Text("red ball"))
    session.edit(*steps.delete(session.edited(), session.require_selection(), None), keep_selection=False)
    shown = session.click(EYE, towards("red"))
    loaded.model.train()  # as nerfstudio leaves it once a picture is drawn
    try:
        again = session.click(EYE, towards("red"))
        assert again.nodes == shown.nodes and RED not in again.nodes
        assert len(session.edited()) < len(loaded.scene.gaussians)
    finally:
        loaded.model.eval()


def test_deleted_things_are_gone_from_pictures_and_exports_but_not_from_the_checkpoint(loaded, session):
    model = loaded.model
    before = show(loaded)["rgb"]
    trained = {k: v.clone() for k, v in model.state_dict().items()}
    session.ask(Text("red ball"))
    inside = show(loaded)["selection"][..., 0] > 0.5
    session.edit(*steps.delete(session.edited(), session.require_selection(), None), keep_selection=False)
    after = show(loaded)["rgb"]
    changed = (after - before).abs().amax(-1) > 0.05
    assert changed[inside].float().mean() > 0.9
    assert len(model.means) == model.num_points == len(model.opacities) == len(trained["child_anchor"]) - 90
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in trained.items())
    with session.as_trained():
        assert torch.equal(show(loaded)["rgb"], before)
    model.train()
    assert len(model.means) == len(trained["child_anchor"])
    model.eval()


def test_edits_and_selection_are_found_when_the_run_is_opened_again(blob_run, loaded, session):
    from ag2_ns.plugin.run import load_run

    session.ask(Text("red ball"))
    session.edit(*steps.delete(session.edited(), session.require_selection(), None), keep_selection=False)
    session.ask(Text("blue ball"))
    assert session.save_edits() == blob_run.parent / FILE_NAME
    assert session.save_selection() == blob_run.parent / SELECTION_FILE
    run = load_run(blob_run)
    again = run.session
    assert again.state.history.edits == session.state.history.edits
    assert again.state.selection.nodes == (BLUE,)
    again.undo()
    assert not again.edits()


def test_edits_can_be_left_out(blob_run, session, monkeypatch):
    from ag2_ns.plugin.run import load_run

    session.ask(Text("red ball"))
    session.edit(*steps.delete(session.edited(), session.require_selection(), None))
    session.save_edits()
    monkeypatch.setenv("AG2_EDITS", "0")
    run = load_run(blob_run)
    assert not run.session.edits()


def test_the_query_of_the_environment_is_selected(blob_run, monkeypatch):
    from ag2_ns.plugin.run import load_run

    monkeypatch.setenv("AG2_QUERY", "red ball; blue ball")
    run = load_run(blob_run)
    session = run.session
    assert set(session.state.selection.nodes) == {RED, BLUE}


@pytest.mark.parametrize("query, message", [("  ", "empty"), ("walrus", "nothing here is called that")])
def test_a_query_that_makes_no_sense_is_refused(blob_run, monkeypatch, query, message):
    from ag2_ns.plugin.run import load_run

    monkeypatch.setenv("AG2_QUERY", query)
    with pytest.raises(UserError, match=message):
        load_run(blob_run)


def test_edits_of_another_run_are_refused(blob_run, loaded, session):
    from ag2_ns.plugin.run import load_run

    session.ask(Text("red ball"))
    session.edit(*steps.delete(session.edited(), session.require_selection(), None))
    loaded.model.anchor_xyz = loaded.model.anchor_xyz + 1
    session.save_edits()
    with pytest.raises(UserError, match="another run"):
        load_run(blob_run)


def test_a_duplicate_is_clicked_and_moved_on_its_own(session):
    session.ask(Text("blue ball"))
    move = (0.0, 0.3, 0.0)
    session.edit(*steps.duplicate(session.edited(), session.require_selection(), 0, translation=move), then_copy=1)
    rows = session.selected()
    assert len(rows) == 90
    assert session.edited().gaussians.means[rows].mean(0).tolist() == pytest.approx([-0.18, 0, 0.12], abs=0.03)
    session.clear()
    session.click(EYE, towards("blue", move))
    assert session.state.copy == 1 and session.state.selection.nodes == (BLUE,)
    session.click(EYE, towards("blue"))
    assert session.state.copy == 0


def test_impossible_things_are_said(loaded, session):
    with pytest.raises(UserError, match="empty"):
        session.ask(Text("   "))
    with pytest.raises(UserError, match="finite"):
        session.click(EYE, (float("nan"), 0.0, 0.0))
    with pytest.raises(UserError, match="nothing is selected"):
        session.members()
    with pytest.raises(UserError, match="granularity"):
        session.set_level(2.0)
    assert session.click(EYE, (0.0, 0.0, 1.0)).reason
    loaded.model.set_scene_index(None)
    with pytest.raises(UserError, match="no instances yet"):
        session.click(EYE, towards("red"))
    with pytest.raises(UserError, match="no instances yet"):
        session.ask(Text("red ball"))


def test_a_run_whose_folder_is_gone_says_so(session, tmp_path):
    scene = session.scene()
    session = Session(Fixed(replace(scene, path=tmp_path / "gone" / "file" / "scene.safetensors")))
    session.ask(Text("red ball"))
    (tmp_path / "gone").write_text("in the way")
    with pytest.raises(UserError, match="ag2_edits"):
        session.save_edits()
    with pytest.raises(UserError, match="ag2_selection"):
        session.save_selection()
    session = Session(Fixed(replace(scene, path=None)))
    with pytest.raises(UserError, match="folder is not known"):
        session.save_edits()


def test_a_cropped_scene_keeps_all_outputs(loaded):
    from nerfstudio.data.scene_box import OrientedBox

    box = OrientedBox(R=torch.eye(3), T=torch.tensor([50.0, 0, 0]), S=torch.ones(3))
    out = loaded.model.get_outputs_for_camera(camera(loaded), obb_box=box)
    assert set(out) == KEYS and out["accumulation"].max() == 0
    around = OrientedBox(R=torch.eye(3), T=torch.tensor(CENTRES["red"]), S=torch.full((3,), 0.3))
    part = loaded.model.get_outputs_for_camera(camera(loaded), obb_box=around)
    assert 0 < part["accumulation"].sum() < 0.5 * show(loaded)["accumulation"].sum()


def test_features_that_are_not_finite_do_not_spread(loaded):
    with torch.no_grad():
        loaded.model.anchor_params["feature"][3] = float("nan")
    out = show(loaded)
    assert all(torch.isfinite(v).all() for v in out.values())


def test_contrast_puts_the_typical_at_zero_and_the_best_at_one():
    score = torch.tensor([0.0, 0.5, 0.5, 0.52, 0.6])
    assert contrast(score).tolist() == pytest.approx([0, 0, 0, 0, 1])
    assert contrast(torch.tensor([0.0, 0.9])).tolist() == pytest.approx([0, 1])
    assert contrast(torch.zeros(3)).sum() == 0


def test_a_selection_of_a_scene_that_has_changed_since_is_let_go(loaded, session):
    session.ask(Text("red ball"))
    model, index = loaded.model, loaded.model.scene_index()
    told = []
    show(loaded)
    session.index_changed = lambda: told.append(1)
    keep = torch.ones(len(model.child_anchor), dtype=torch.bool)
    keep[:5] = False
    model.restructure(torch.ones(len(model.anchor_xyz), dtype=torch.bool), keep, None, None, {})
    out = show(loaded)
    assert told and out["selection"].max() == 0
    with pytest.raises(UserError, match="changed since"):
        session.members()
    model.set_scene_index(replace(index, gaussian_anchor=index.gaussian_anchor[5:]))
    assert session.ask(Text("blue ball"), "add").nodes == (BLUE,)
    assert show(loaded)["selection"].max() > 0.5
