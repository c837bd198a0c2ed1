"""Resuming in the middle of the feature schedule, and what follows anchors when they change."""

import pytest
import torch
from tiny_model import HEIGHT, WIDTH, attach, tiny_model, training_step

from ag2_ns.core.masks import MaskSet
from ag2_ns.plugin.structure import CHILD_TENSORS
from ag2_ns.splat.anchors import Anchors, Children
from ag2_ns.splat.growth import GrowthRule
from ag2_ns.splat.split import SplitRule

POINTS = 200
SCHEDULE = dict(
    schedule_steps=40,
    grow_from=2,
    grow_every=4,
    grow_until=8,
    opacity_reset_every=1000,
    growth=GrowthRule(threshold=1e-9, min_seen=0),
    splits=SplitRule(threshold=1e-9),
    mask_loss_from=10,
    propagation_from=14,
    remove_invisible_at=(22,),
    invisible_below=0.2,
    instances="none",
    max_gaussians=4 * POINTS,
)


def batch() -> dict:
    dense = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    dense[0, :, : WIDTH // 2] = dense[1, :, WIDTH // 2 :] = dense[2, 10:20, 10:30] = True
    image = torch.full((HEIGHT, WIDTH, 3), 128, dtype=torch.uint8)
    image[:, : WIDTH // 2] = torch.tensor([200, 40, 40], dtype=torch.uint8)
    return {"image": image, "masks": MaskSet.from_dense(dense)}


def started(seed: int = 0, start: int = 0, state=None, **options):
    model = tiny_model(seed=seed, points=POINTS, **SCHEDULE | options)
    model.anchor_xyz *= 0.3  # close enough to each other for edges
    model.anchor_radius *= 0.3
    if state is not None:
        model.load_state_dict({k: v.clone() for k, v in state[0].items()})
    optimizers = attach(model, steps=40 - start, start=start, masks=True)
    if state is not None:
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state[1][name])
    return model, optimizers


def saved(model, optimizers):
    """As a checkpoint holds it."""
    import copy

    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    return state, {k: copy.deepcopy(o.state_dict()) for k, o in optimizers.items()}


@pytest.mark.parametrize(("loss", "by"), [("contrastive", "splits"), ("contrastive", "cells"), ("prototype", "cells")])
@pytest.mark.parametrize("stop", [4, 12, 17, 22])
def test_a_resumed_run_does_what_the_first_would_have_done(stop, loss, by):
    """Stopped while growing, in the features' schedule, with the graph in use, and right after anchors were dropped."""
    model, optimizers = started(mask_loss=loss, grow_by=by)
    losses = []
    for step in range(26):
        if step == stop + 1:
            state = saved(model, optimizers)
        losses.append({k: float(v.detach()) for k, v in training_step(model, optimizers, step, batch()).items()})
    assert {"mask", "propagation"} <= set(losses[-1]) and "mask" not in losses[9] and "propagation" not in losses[13]
    assert len(state[0]["child_anchor"]) != 2 * POINTS, "it grew"

    again, resumed = started(seed=3, start=stop + 1, state=state, mask_loss=loss, grow_by=by)
    assert torch.equal(again.anchor_params["feature"], state[0]["anchor_params.feature"])
    moments = resumed["anchor_feature"].state[again.anchor_params["feature"]]
    if stop > 10:
        expected = state[1]["anchor_feature"]["state"][0]
        for name in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(moments[name], expected[name]), name
    for step in range(stop + 1, 26):
        found = training_step(again, resumed, step, batch())
        assert set(found) == set(losses[step])
        for name, value in found.items():
            assert float(value.detach()) == pytest.approx(losses[step][name], rel=1e-4, abs=1e-7), (step, name)
    assert torch.equal(again.anchor_xyz, model.anchor_xyz)
    for name in CHILD_TENSORS:
        torch.testing.assert_close(again.child_params[name], model.child_params[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again.anchor_params["feature"], model.anchor_params["feature"], rtol=1e-4, atol=1e-5)
    assert (
        torch.equal(again.propagation_graph.edges, model.propagation_graph.edges) and len(again.propagation_graph) > 20
    )


def with_graph():
    model, optimizers = started()
    for step in range(14, 16):
        training_step(model, optimizers, step, batch())
    assert model.propagation_graph is not None and model.propagation_graph.num_anchors == len(model.anchor_xyz)
    return model, optimizers


def restructured(model, optimizers):
    keep = torch.ones(len(model.anchor_xyz), dtype=torch.bool)
    keep[3] = False
    model.restructure(keep, keep[model.child_anchor], None, None, optimizers)


def pruned(model, optimizers):
    model.config.invisible_below = 1e9
    seen = torch.rand(model.num_points, generator=torch.Generator().manual_seed(0)) > 0.5
    from ag2_ns.splat.density import drop_children

    drop_children(model, seen, optimizers)


def loaded(model, optimizers):
    model.load_state_dict(tiny_model(seed=4, points=31).state_dict())


def adopted(model, optimizers):
    anchors = Anchors(torch.rand(5, 3), torch.ones(5, 1), torch.ones(5, 3))
    rows = {k: model.child_params[k].detach()[:9] for k in CHILD_TENSORS}
    model.adopt(anchors, Children(torch.arange(9) % 5, **rows), 1.0)


@pytest.mark.parametrize("change", [restructured, pruned, loaded, adopted])
def test_what_changes_anchors_drops_what_was_made_from_them(change):
    model, optimizers = with_graph()
    model.index.set({"edges": torch.zeros(2, 4, dtype=torch.long)})
    change(model, optimizers)
    assert model.propagation_graph is None and model.screen_statistics is None
    assert model.scene_index() is None and len(model.index) == 0


def test_the_graph_is_of_the_anchors_in_use_after_some_were_dropped():
    model, optimizers = started()
    sizes = []
    for step in range(14, 26):
        training_step(model, optimizers, step, batch())
        sizes.append(
            (len(model.anchor_xyz), None if model.propagation_graph is None else model.propagation_graph.num_anchors)
        )
    assert sizes[8][1] is None and sizes[8][0] < sizes[7][0], "dropped at step 22"
    assert sizes[7] == (POINTS, POINTS) and sizes[9][0] == sizes[9][1] < POINTS
    assert int(model.propagation_graph.edges.max()) < len(model.anchor_xyz)
