import pytest
import torch
from tiny_model import HEIGHT, POINTS, WIDTH, attach, camera_ring, optimizers_of, tiny_model, training_step

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.plugin.structure import CHILD_TENSORS
from ag2_ns.rendering import over
from ag2_ns.splat.anchors import Anchors, Children
from ag2_ns.splat.growth import GrowthRule


def masks() -> MaskSet:
    dense = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    dense[0, :, : WIDTH // 2] = True
    dense[1, :, WIDTH // 2 :] = True
    return MaskSet.from_dense(dense)


# What it renders.


def test_outputs_of_an_evaluation_view():
    model = tiny_model().eval()
    outputs = model.get_outputs_for_camera(camera_ring()[:1])
    channels = {"rgb": 3, "depth": 1, "accumulation": 1, "feature": 3}
    for name, count in channels.items():
        assert outputs[name].shape == (HEIGHT, WIDTH, count), name
        assert torch.isfinite(outputs[name]).all(), name
    assert outputs["rgb"].min() >= 0 and outputs["rgb"].max() <= 1
    assert 0.2 < outputs["accumulation"].max() <= 1
    assert not any(v.requires_grad for v in outputs.values())


def test_rgba():
    model = tiny_model().eval()
    outputs = model.get_outputs_for_camera(camera_ring()[:1])
    rgba = model.get_rgba_image(outputs)
    assert rgba.shape == (HEIGHT, WIDTH, 4) and torch.equal(rgba[..., 3:], outputs["accumulation"])


def test_training_renders_only_what_the_losses_need():
    model = tiny_model(mask_loss_from=50, mask_loss_every=3)
    attach(model, steps=10000, masks=True)
    model.train()
    model.before_step(10)
    assert "feature" not in model(camera_ring()[:1])
    model.before_step(60)
    assert model(camera_ring()[:1])["feature"].shape == (HEIGHT, WIDTH, 3)
    model.before_step(61)
    assert "feature" not in model(camera_ring()[:1])


def test_training_starts_at_half_resolution():
    model = tiny_model(num_downscales=1, resolution_schedule=10)
    attach(model, steps=10000)
    model.train()
    for step, factor in ((0, 2), (9, 2), (10, 1)):
        model.before_step(step)
        assert model(camera_ring()[:1])["premultiplied"].shape == (HEIGHT // factor, WIDTH // factor, 3)
    losses = training_step(model, optimizers_of(model), 0)
    assert torch.isfinite(losses["main_loss"])


def test_spherical_harmonic_bands_come_one_by_one():
    model = tiny_model(sh_degree=2, sh_degree_interval=10)
    attach(model, steps=10000)
    degrees = []
    for step in (0, 9, 10, 25, 90):
        model.before_step(step)
        degrees.append(model.shown_degree())
    assert degrees == [0, 0, 1, 2, 2]


# Gradients.


def test_every_tensor_gets_a_gradient():
    weights = {"near_anchor_weight": 0.05, "opacity_cover_weight": 0.1, "grow_by": "cells"}
    model = tiny_model(mask_loss_from=0, propagation_from=0, opacity_cover_from=0, sh_degree_interval=1, **weights)
    attach(model, steps=10000, masks=True)
    model.train()
    for group in model.child_params.values():
        group.data += 0.01 * torch.randn(group.shape, generator=torch.Generator().manual_seed(1))
    model.before_step(5)
    batch = {"image": torch.randint(0, 255, (HEIGHT, WIDTH, 3), dtype=torch.uint8), "masks": masks()}
    losses = model.get_loss_dict(model(camera_ring()[:1]), batch)
    assert {"main_loss", "near_anchor", "opacity_cover", "mask", "propagation"} <= set(losses)
    sum(losses.values()).backward()
    for name in CHILD_TENSORS:
        gradient = model.child_params[name].grad
        assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0, name
    gradient = model.anchor_params["feature"].grad
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_steps_lower_the_loss():
    model = tiny_model(instances="none")
    optimizers = attach(model, steps=40)
    for optimizer in optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.02
    image = model.eval().get_outputs_for_camera(camera_ring()[:1])["rgb"]
    batch = {"image": ((1 - image) * 255).byte()}
    losses = [float(training_step(model, optimizers, 4 * k, batch)["main_loss"].detach()) for k in range(20)]
    assert losses[-1] < 0.97 * losses[0]


def test_instances_from_features_need_a_loss_that_trains_them():
    for instances in ("features", "both"):
        with pytest.raises(UserError, match=f"instances={instances}: mask_loss=none leaves the features untrained"):
            attach(tiny_model(instances=instances, mask_loss="none"))
    attach(tiny_model(instances="features"))


# Structure.


def test_restructure_moves_optimizer_state_along():
    model = tiny_model()
    optimizers = optimizers_of(model)
    for name, optimizer in optimizers.items():
        (parameter,) = optimizer.param_groups[0]["params"]
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
        optimizer.step()
    moments = {k: next(iter(o.state.values()))["exp_avg"].clone() for k, o in optimizers.items()}
    before = {k: v.detach().clone() for k, v in model.child_params.items()}
    anchors = len(model.anchor_xyz)
    keep_anchor = torch.ones(anchors, dtype=torch.bool)
    keep_anchor[[1, 5]] = False
    keep_child = keep_anchor[model.child_anchor].clone()
    keep_child[0] = False
    new_anchors = Anchors(torch.full((3, 3), 9.0), torch.ones(3, 1), torch.full((3, 3), 0.5))
    shapes = {k: (3, *model.child_params[k].shape[1:]) for k in CHILD_TENSORS}
    rows = {k: torch.full(shape, 0.25) for k, shape in shapes.items()}
    new_children = Children(torch.tensor([anchors, anchors + 1, anchors + 2]), **rows)
    expected_xyz = model.anchor_xyz[model.child_anchor][keep_child]

    model.restructure(keep_anchor, keep_child, new_anchors, new_children, optimizers)

    kept = int(keep_child.sum())
    assert len(model.anchor_xyz) == anchors - 2 + 3 and model.num_points == kept + 3
    assert torch.equal(model.anchor_xyz[model.child_anchor[:kept]], expected_xyz), "children keep their anchor"
    assert (model.anchor_xyz[model.child_anchor[kept:]] == 9).all()
    for name in CHILD_TENSORS:
        parameter = model.child_params[name]
        assert torch.equal(parameter.detach()[:kept], before[name][keep_child]) and (parameter[kept:] == 0.25).all()
        assert optimizers[name].param_groups[0]["params"] == [parameter]
        state = optimizers[name].state[parameter]["exp_avg"]
        assert torch.equal(state[:kept], moments[name][keep_child]) and (state[kept:] == 0).all()
        assert len(optimizers[name].state) == 1
    feature = model.anchor_params["feature"]
    state = optimizers["anchor_feature"].state[feature]["exp_avg"]
    assert torch.equal(state[: anchors - 2], moments["anchor_feature"][keep_anchor])
    camera = camera_ring()[:1]
    assert torch.isfinite(model.eval().get_outputs_for_camera(camera)["rgb"]).all()


def test_opacity_reset_lowers_opacities_and_forgets_their_moments():
    model = tiny_model(initial_opacity=0.5)
    optimizers = attach(model)
    training_step(model, optimizers, 1)
    logit = model.child_params["opacity_logit"]
    logit.data[0] = -8.0
    assert optimizers["opacity_logit"].state[logit]["exp_avg"].abs().sum() > 0
    model.reset_opacity()
    opacity = logit.sigmoid()
    assert opacity.max() <= 0.01 + 1e-6 and opacity[0] < 0.001, "never raised"
    assert optimizers["opacity_logit"].state[logit]["exp_avg"].abs().sum() == 0
    assert bool(model.opacity_was_reset)


def test_invisible_gaussians_are_removed():
    model = tiny_model()
    attach(model)
    hidden = 7
    model.anchor_xyz[hidden] = torch.tensor([0.0, 0.0, 50.0])  # behind every camera or out of every picture
    anchors, children = len(model.anchor_xyz), model.num_points
    model.train()
    model.remove_invisible()
    assert len(model.anchor_xyz) < anchors and model.num_points <= children - 2
    assert not (model.anchor_xyz[:, 2] > 40).any()
    assert torch.bincount(model.child_anchor, minlength=len(model.anchor_xyz)).min() > 0


def test_what_hides_others_is_removed_at_its_own_steps(monkeypatch):
    model = tiny_model(remove_invisible_at=(2,), remove_hiding_at=(2, 4), instances="none")
    optimizers = attach(model, steps=10000)
    calls = []
    monkeypatch.setattr(model, "remove_invisible", lambda *unseen_hides: calls.append((model.step, *unseen_hides)))
    for step in range(6):
        training_step(model, optimizers, step)
    assert calls == [(2, True, True), (4, False, True)]
    monkeypatch.undo()
    first = torch.arange(model.num_points) == 0
    monkeypatch.setattr("ag2_ns.plugin.model.hiding", lambda *_: first)
    means = model.means.detach()
    model.remove_invisible(unseen=False, hides=True)
    assert torch.equal(model.means.detach(), means[1:])


def test_growth_adds_anchors_within_the_budget():
    options = dict(grow_from=2, grow_every=3, growth=GrowthRule(threshold=1e-9, min_seen=0), remove_invisible_at=())
    options |= {"grow_by": "cells"}
    model = tiny_model(max_gaussians=2 * POINTS + 50, instances="none", **options)
    optimizers = attach(model, steps=10000)
    counts = []
    for step in range(8):
        training_step(model, optimizers, step)
        counts.append(model.num_points)
    assert counts[2] == 2 * POINTS < counts[3] <= 2 * POINTS + 50
    for name in CHILD_TENSORS:
        assert len(model.child_params[name]) == model.num_points
        assert optimizers[name].param_groups[0]["params"][0] is model.child_params[name]


def test_a_gaussian_that_became_nan_does_not_stay():
    model = tiny_model(grow_from=1, grow_every=2, remove_invisible_at=(), instances="none")
    optimizers = attach(model, steps=10000)
    training_step(model, optimizers, 1)
    with torch.no_grad():
        model.child_params["log_scale"][3] = float("nan")
    training_step(model, optimizers, 2)
    assert torch.isfinite(model.child_params["log_scale"]).all()


# Schedules.


@pytest.mark.parametrize("length, expected", [(100, 60), (50, 30), (1000, 600), (0, 60)])
def test_schedules_stretch_with_the_run(length, expected):
    model = tiny_model(schedule_steps=100)
    model.schedule_length.fill_(length)
    assert model.at(60) == expected


def test_the_offsets_learning_rate_decays_log_linearly_to_the_end_of_the_run():
    model = tiny_model(schedule_steps=1000, offset_lr=1e-2, offset_lr_final=1e-4)
    optimizers = attach(model, steps=200)
    rates = []
    for step in (0, 100, 200, 500):
        model.before_step(step)
        rates.append(optimizers["offset"].param_groups[0]["lr"])
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4, 1e-4])
    assert all(type(rate) is float for rate in rates), "numpy numbers would not load from a checkpoint"


def test_a_number_is_read_from_the_device_only_after_it_was_written(monkeypatch):
    model = tiny_model(schedule_steps=100)
    reads, item = [], torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: reads.append(1) or item(self))
    model.schedule_length.fill_(50)
    assert [model.at(60) for _ in range(5)] == [30] * 5 and len(reads) == 1
    model.schedule_length.fill_(200)
    assert model.at(60) == 120 and len(reads) == 2
    model.load_state_dict(tiny_model().state_dict() | {"schedule_length": torch.tensor(1000)})
    assert model.at(60) == 600
    model.schedule_length = torch.tensor(100)
    assert model.at(60) == 60


def test_a_step_reads_nothing_from_the_device_that_the_model_knows(monkeypatch):
    """Every such read would make the CPU wait for the GPU."""
    from ag2_ns.plugin.views import PINHOLE, pinholes

    model = tiny_model(mask_loss_from=0, propagation_from=0, opacity_cover_from=0, instances="none")
    attach(model, steps=10000, masks=True)
    image = torch.full((HEIGHT, WIDTH, 3), 128, dtype=torch.uint8)
    reads = []

    def watched(name):
        own = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a: reads.append(name) or own(self, *a))

    camera, batch = camera_ring()[:1], {"image": image, "masks": masks()}
    camera.metadata = {"cam_idx": 0, PINHOLE: pinholes(camera)[0]}
    for round in range(2):
        if round:
            for name in ("__int__", "__float__", "__bool__", "item", "nonzero"):
                watched(name)
        model.train()
        model.before_step(1)
        model.get_loss_dict(model(camera), batch)
        model.after_step(1)
    assert reads == []


def test_a_resumed_run_keeps_the_length_of_the_first():
    model = tiny_model()
    attach(model, steps=80)
    other = tiny_model(seed=1)
    other.load_state_dict(model.state_dict())
    attach(other, steps=7, start=80)
    assert int(other.schedule_length) == 80 and other.at(other.config.schedule_steps) == 80


# Checkpoints.


def test_state_dict_round_trip_with_other_sizes():
    model, other = tiny_model(points=POINTS).eval(), tiny_model(seed=5, points=23).eval()
    model.index.set({"tree.parent": torch.arange(4), "edges": torch.zeros(2, 9, dtype=torch.long)})
    state = {k: v.clone() for k, v in model.state_dict().items()}
    other.load_state_dict(state)
    assert set(other.state_dict()) == set(state)
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name]), name
    camera = camera_ring()[:1]
    model.index.set({})
    other.index.set({})
    a, b = (m.get_outputs_for_camera(camera)["rgb"] for m in (model, other))
    assert torch.equal(a, b)


def test_a_checkpoint_that_lacks_a_tensor_is_refused():
    model = tiny_model()
    state = model.state_dict()
    del state["child_params.quat"], state["anchor_xyz"]
    with pytest.raises(UserError, match=r"anchor_xyz.*child_params\.quat|child_params\.quat.*anchor_xyz"):
        tiny_model().load_state_dict(state)


def test_a_checkpoint_of_another_width_is_refused():
    state = tiny_model(feature_width=5).state_dict()
    with pytest.raises(UserError, match=r"anchor_params\.feature"):
        tiny_model(feature_width=3).load_state_dict(state)


def test_adopting_foreign_gaussians_shows_them_unchanged():
    from ag2_ns.splat.regroup import group_by_voxel

    source = tiny_model(seed=3).eval()
    splat = source.gaussians().detach()
    anchors, children = group_by_voxel(splat, float(source.extent), 0.015)
    model = tiny_model(points=10).eval()
    model.adopt(anchors, children, float(source.extent))
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.allclose(getattr(model.gaussians(), name), getattr(splat, name), atol=1e-5), name
    camera = camera_ring()[:1]
    a, b = (m.get_outputs_for_camera(camera)["rgb"] for m in (source, model))
    assert torch.allclose(a, b, atol=1e-4)


def test_grouping_by_voxel_covers_every_gaussian_once():
    from ag2_ns.splat.regroup import group_by_voxel

    generator = torch.Generator().manual_seed(0)
    means = torch.rand(500, 3, generator=generator) - 0.5
    ones = torch.ones(500)
    splat = Gaussians(means, torch.eye(4)[:1].expand(500, 4), 0.01 * torch.ones(500, 3), ones, torch.zeros(500, 1, 3))
    anchors, children = group_by_voxel(splat, 1.0, share=0.2)
    cell = torch.floor(means / 0.2).long()
    assert len(anchors) == len(torch.unique(cell, dim=0))
    for a in range(0, len(anchors), 7):
        inside = means[children.anchor == a]
        assert torch.allclose(anchors.xyz[a], inside.mean(0), atol=1e-6)
        assert len(torch.unique(torch.floor(inside / 0.2), dim=0)) == 1
    assert (children.offset.norm(dim=1) <= 2 + 1e-5).all(), "within the voxel"


# Losses.


def test_masked_pixels_do_not_count():
    model = tiny_model()
    attach(model)
    model.train()
    model.before_step(1)
    outputs = model(camera_ring()[:1])
    shown = over(outputs["premultiplied"], outputs["accumulation"], outputs["background"])
    target = (shown.detach() * 255).round().byte()
    spoiled = target.clone()
    spoiled[:, : WIDTH // 2] = 255
    mask = torch.ones(HEIGHT, WIDTH, 1, dtype=torch.bool)
    mask[:, : WIDTH // 2] = False
    clean = model.get_loss_dict(outputs, {"image": target, "mask": mask})["main_loss"]
    assert torch.allclose(model.get_loss_dict(outputs, {"image": spoiled, "mask": mask})["main_loss"], clean)
    assert model.get_loss_dict(outputs, {"image": spoiled})["main_loss"] > clean + 0.01


def test_transparent_images_are_put_on_the_background():
    model = tiny_model(background_color="white").eval()
    outputs = model.get_outputs_for_camera(camera_ring()[:1])
    empty = {"image": torch.zeros(HEIGHT, WIDTH, 4, dtype=torch.uint8)}
    metrics, images = model.get_image_metrics_and_images(outputs, empty)
    assert images["img"].shape == (HEIGHT, 2 * WIDTH, 3)
    assert torch.allclose(images["img"][:, :WIDTH], outputs["background"].expand(HEIGHT, WIDTH, 3))
    assert set(metrics) >= {"psnr", "ssim"}


def test_only_scenes_of_random_points_shrink():
    for options, shrinks in (
        ({}, False),
        ({"random_init": True, "num_random": 50}, True),
        ({"random_init": True, "num_random": 50, "random_opacity_weight": 0.0, "random_scale_weight": 0.0}, False),
    ):
        model = tiny_model(instances="none", **options)
        optimizers = attach(model)
        before = model.gaussians().opacities.detach().mean()
        losses = [training_step(model, optimizers, step) for step in range(3)][-1]
        assert ("shrink" in losses) == shrinks
        if shrinks:
            gaussians = model.gaussians()
            scale = gaussians.scales.mean() / model.extent
            assert losses["shrink"].item() == pytest.approx(0.01 * (float(before) + float(scale)), rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("random", [False, True])
def test_recorded_steps_are_those_of_the_renderer(random):
    options = {"rasterizer": "gsplat", "sh_degree": 3, "sh_degree_interval": 1, "random_init": random}
    model = tiny_model(instances="none", mask_loss_from=0, mask_loss_every=2, num_random=300, **options).to("cuda")
    attach(model, steps=10000, masks=True)
    model.train()
    with torch.no_grad():
        model.child_params["sh_rest"].normal_(std=0.2)
    leaves = [*model.child_params.values(), model.anchor_params["feature"]]

    def gradients(step):
        model.before_step(step)
        outputs = model(camera_ring().to("cuda")[step % 4 : step % 4 + 1])
        weight = torch.linspace(0, 1, WIDTH, device="cuda")[:, None]
        names = [k for k in ("premultiplied", "accumulation", "feature") if k in outputs]
        assert ("feature" in names) == (step % 2 == 0) and ("shrink" in outputs) == random
        sum([outputs.get("shrink", 0.0), *((outputs[k] * weight).square().sum() for k in names)]).backward()
        found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in leaves]
        before = 0.0 if model.screen_statistics is None else model.screen_statistics.gradient.clone()
        model.after_step(step)
        for p in leaves:
            p.grad = None
        return [*found, *(outputs[k].detach().clone() for k in names), model.screen_statistics.gradient - before]

    for step in range(10, 26):
        one = gradients(step)
        model.config.record = False
        other = gradients(step)
        model.config.record = True
        # Round Gaussians look the same however they are turned: gradients of rotations are rounding only, about 3e-6.
        for a, b in zip(one, other):
            assert (a - b).norm() <= 1e-4 * b.norm() + 1e-5


def test_scenes_of_random_points_are_pruned_by_a_rule_of_their_own(monkeypatch):
    import ag2_ns.plugin.model as module
    from ag2_ns.splat.growth import PruneRule

    used = []
    monkeypatch.setattr(module, "refine", lambda *a, prune, **k: used.append(prune))
    rules = {"prune": PruneRule(max_scale=0.4), "prune_random": PruneRule(max_scale=0.2)}
    for random in (False, True):
        model = tiny_model(grow_from=1, grow_every=1, random_init=random, num_random=50, instances="none", **rules)
        optimizers = attach(model, steps=10000)
        for step in range(3):
            training_step(model, optimizers, step)
    assert set(used[: len(used) // 2]) == {rules["prune"]} and set(used[len(used) // 2 :]) == {rules["prune_random"]}
