"""What Gaussians are taught by, and what they are turned into."""

import numpy as np
import pytest
import torch
from shared_data import shared

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.feedforward import losses
from ag2_ns.feedforward.config import FAR, LossConfig, NetworkConfig, OccupancyConfig
from ag2_ns.feedforward.model import Batch, GaussTR, Predicted
from ag2_ns.feedforward.objective import objective
from ag2_ns.feedforward.occupancy import occupancy, prompt_probabilities
from ag2_ns.feedforward.patches import lifted_patches
from ag2_ns.feedforward.rays import EMPTY, FULL, RayTargets, ray_targets, rays_of
from ag2_ns.io.surround import load_frame, read_drives
from ag2_ns.ops.voxels import VoxelGrid
from ag2_ns.rendering.choose import choose_rasterizer

GRID = VoxelGrid((-4.0, -4.0, -1.0), 0.4, (20, 20, 16))
VIEW = View(torch.eye(4), torch.tensor([[20.0, 0, 16], [0, 20, 12], [0, 0, 1]]), 32, 24)


def one(opacity, mean=(0.0, 0.0, 3.0), scale=0.5, feature=(1.0, 0.0, 0.0)):
    return Predicted(
        torch.tensor([[mean]]), torch.tensor([[[1.0, 0, 0, 0]]]), torch.full((1, 1, 3), scale),
        torch.tensor([[opacity]]), torch.tensor([[feature]]),
    )  # fmt: skip


def test_depth_is_accumulated_and_not_divided_by_coverage():
    half = one(0.5)
    values, depth = losses.render_views(half, 0, half.features[0], [VIEW], choose_rasterizer("cpu", "cpu"))
    middle = depth[0, 12, 16]
    assert float(middle) == pytest.approx(1.5, rel=0.03)
    assert float(values[0, 12, 16, 0]) == pytest.approx(0.5, rel=0.03)


def test_losses_vanish_on_the_truth_and_sky_teaches_transparency():
    depth = torch.full((1, 8, 10), 7.0)
    assert float(losses.depth_loss(depth.clone(), depth, 0.2)) < 1e-3
    sky = torch.full((1, 8, 10), FAR)
    assert float(losses.depth_loss(torch.full_like(sky, 0.001), sky, 0.2)) < 1e-3
    assert float(losses.depth_loss(torch.full_like(sky, 5.0), sky, 0.2)) > 1
    target = torch.randn(2, 6, 3, 4)
    large = torch.nn.functional.interpolate(target, (9, 12), mode="bilinear", align_corners=False)
    assert float(losses.feature_loss(3 * large.movedim(1, -1), target)) < 1e-5
    assert float(losses.feature_loss(-large.movedim(1, -1), target, chunk=4)) == pytest.approx(2, abs=1e-5)


def test_silog_is_what_it_says():
    drawn, depth = torch.tensor([[[2.0, 8.0]]]), torch.tensor([[[4.0, 4.0]]])
    gap = np.log([2.0, 0.5])
    expected = np.sqrt((gap**2).mean() - 0.5 * gap.mean() ** 2) + 0.2 * 3.0
    assert float(losses.depth_loss(drawn, depth, 0.2)) == pytest.approx(expected, rel=1e-4)


def test_principal_axes():
    torch.manual_seed(1)
    rows = torch.randn(2000, 6) * torch.tensor([5.0, 3.0, 1.0, 0.1, 0.1, 0.1]) + 2
    axes = losses.principal_axes(rows, 2)
    assert axes.shape == (6, 2) and abs(float(axes[0, 0])) > 0.99 and abs(float(axes[1, 1])) > 0.99
    torch.manual_seed(0)
    assert torch.allclose(losses.step_axes(rows, 2).abs(), axes.abs(), atol=1e-2)
    assert losses.principal_axes(rows, 99).shape == (6, 6)


def test_rays_fill_what_they_end_in_and_empty_what_they_pass():
    depth = torch.full((1, 24, 32), 3.0)
    depth[:, :, 20:] = 100.0
    features = torch.randn(1, 5, 3, 4)
    grid = VoxelGrid((-2.0, -2.0, 0.0), 0.5, (8, 8, 8))
    own = rays_of((VIEW,), depth, features, 10_000)
    found = ray_targets(own, [], grid)
    assert int(found.seen[4, 4, 2]) == EMPTY and int(found.seen[4, 4, 6]) == FULL
    assert int(found.seen[4, 4, 7]) == 0 and int(found.seen[0, 0, 0]) == 0
    far = found.seen[6, 4, :]  # through pixels whose depth is far
    assert FULL not in far.tolist()
    assert found.features.shape == (len(found.index), 5)
    ends = (found.seen == FULL).nonzero()
    assert {tuple(i) for i in ends.tolist()} == {tuple(i) for i in found.index.tolist()}
    other = rays_of((VIEW,), torch.full((1, 24, 32), 1.2), None, 10_000)
    both = ray_targets(own, [other], grid)
    assert int(both.seen[4, 4, 2]) == EMPTY, "what this frame sees to be empty stays so"
    few = rays_of((VIEW,), depth, None, 50)
    assert len(few.depth) <= 60


def test_loss_along_rays_prefers_what_rays_say():
    seen = torch.zeros(4, 4, 4, dtype=torch.uint8)
    seen[:2], seen[2] = EMPTY, FULL
    right, wrong = torch.zeros(4, 4, 4), torch.zeros(4, 4, 4)
    right[2], wrong[0] = 1.0, 1.0
    assert float(losses.occupancy_along_rays(right, seen, 0.04)) < 0.01
    assert float(losses.occupancy_along_rays(wrong, seen, 0.04)) > 1
    half = torch.full((4, 4, 4), 0.04, requires_grad=True)
    losses.occupancy_along_rays(half, seen, 0.04).backward()
    assert float(half.grad[2].max()) < 0 < float(half.grad[0].min()) and float(half.grad[3].abs().max()) == 0


def test_training_lowers_every_loss():
    torch.manual_seed(0)
    config = NetworkConfig(width=16, queries=12, layers=2, heads=2, points=2, ffn=16, head_width=16, dropout=0.0)
    loss = LossConfig(channels=4, rays=1.0)
    K, pose = VIEW.K.expand(1, 1, 3, 3), torch.eye(4).expand(1, 1, 4, 4)
    b = Batch(torch.randn(1, 1, 6, 3, 4), 2 + 2 * torch.rand(1, 1, 24, 32), K, pose)
    axes = losses.principal_axes(b.features.movedim(2, -1).reshape(-1, 6), 4)
    grid = VoxelGrid((-2.0, -2.0, 0.0), 0.5, (8, 8, 10))
    rays = [ray_targets(rays_of((VIEW,), b.depth[0], b.features[0], 1000), [], grid)]
    net, rasterizer = GaussTR(config, 6), choose_rasterizer("cpu", "cpu")
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    first = None
    for _ in range(40):
        found = objective(net(b), b, axes, loss, rasterizer, rays, grid)
        first = first or {k: float(v.detach()) for k, v in found.items()}
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
    assert set(found) == {"feature", "depth", "rays", "rays_feature"}
    for name, value in found.items():
        assert float(value.detach()) < first[name], name


TEXTS = torch.tensor([[1.0, 0, 0], [0.0, 1, 0], [0.0, 0, 1], [0.9, 0.1, 0.0]])
PROMPT_CLASS = torch.tensor([4, 11, 17, 15])


def gaussians_at(*means):
    n = len(means)
    return Gaussians(
        torch.tensor(means), torch.tensor([[1.0, 0, 0, 0]]).expand(n, 4), torch.full((n, 3), 0.3),
        torch.full((n,), 0.9), torch.zeros(n, 1, 3),
    )  # fmt: skip


def test_voxels_take_the_likeliest_class_and_the_sky_is_free():
    made = gaussians_at((-2.0, 0.0, 0.2), (0.0, 0.0, 0.2), (2.0, 0.0, 0.2))
    found = occupancy(made, 10 * torch.eye(3), TEXTS, PROMPT_CLASS, GRID, OccupancyConfig())
    index, _ = GRID.index(made.means)
    at = [int(found.semantics[tuple(i)]) for i in index]
    assert at == [4, 11, 17] and int(found.semantics[0, 0, 0]) == 17
    assert found.classes.tolist() == [4, 11, 15, 17]
    asked = occupancy(made, 10 * torch.eye(3), TEXTS, PROMPT_CLASS, GRID, OccupancyConfig(sky=False))
    assert int(asked.semantics[tuple(index[2])]) in (4, 11, 15)


def test_zero_gaussians_in_range_is_all_free():
    none = gaussians_at((500.0, 0.0, 0.0))
    for config in (OccupancyConfig(), OccupancyConfig(min_extent=0.015), OccupancyConfig(denoise=True)):
        found = occupancy(none, torch.eye(3)[:1], TEXTS, PROMPT_CLASS, GRID, config)
        assert set(found.semantics.flatten().tolist()) == {17}
    empty = none[torch.zeros(1, dtype=torch.bool)]
    assert int(occupancy(empty, torch.zeros(0, 3), TEXTS, PROMPT_CLASS, GRID, OccupancyConfig()).semantics.min()) == 17


def test_published_rules():
    features = torch.tensor([[3.0, 1.0, 0.0]])
    dots = prompt_probabilities(features, TEXTS, OccupancyConfig(normalise=False, temperature=1.0))
    assert torch.allclose(dots, (features @ TEXTS.T).softmax(-1))
    made = gaussians_at((0.0, 0.0, 0.2))
    weak = Gaussians(made.means, made.quats, made.scales, torch.tensor([0.5]), made.sh)
    config = OccupancyConfig(min_opacity=0.6)
    assert int(occupancy(weak, features, TEXTS, PROMPT_CLASS, GRID, config).semantics.min()) == 17
    thin = Gaussians(made.means, made.quats, torch.full((1, 3), 0.04), made.opacities, made.sh)
    config = OccupancyConfig(min_extent=0.015)  # 6 x 0.04^2 = 0.0096
    assert int(occupancy(thin, features, TEXTS, PROMPT_CLASS, GRID, config).semantics.min()) == 17
    config = OccupancyConfig(normalise=False, temperature=1.0, denoise=True, softmax_again=True)
    found = occupancy(made, 5 * features, TEXTS, PROMPT_CLASS, GRID, config)
    assert 4 in found.semantics.flatten().tolist()


def test_lifted_patches_of_the_real_frame_fit_the_pictures():
    """Depth from LiDAR lifted to Gaussians and drawn again agrees with the sweep, in every camera."""
    from ag2_ns.io.surround import Frame
    from ag2_ns.perception.depth import lidar_depth, project_lidar

    (record,) = read_drives(shared("nuscenes_sample"))[0].frames
    width, height = 160, 90
    cameras = record.cameras[:2]
    depth = torch.stack([torch.from_numpy(lidar_depth(record, c)) for c in cameras])
    depth = torch.nn.functional.interpolate(depth[None], (height, width), mode="nearest")[0]
    views = tuple(c.view(width, height) for c in cameras)
    made, _ = lifted_patches(Frame(record, views, depth, torch.zeros(2, 3, 18, 32)), 0.5)
    rasterizer = choose_rasterizer("cpu", "cpu")
    for view, camera in zip(views, cameras):
        z = (made.means @ view.viewmat[2, :3] + view.viewmat[2, 3])[:, None]
        drawn = rasterizer.rasterize(made.means, made.quats, made.scales, made.opacities, z, view)
        found = (drawn.values[..., 0] / drawn.alpha[..., 0].clamp_min(1e-3)).numpy()
        pixel, true = project_lidar(record, camera)
        x, y = (pixel * width / camera.width).astype(int).T
        near = true < FAR
        gap = np.abs(found[y.clip(0, height - 1), x.clip(0, width - 1)] - true)[near] / true[near]
        assert np.median(gap) < 0.08


def test_a_street_frame_gives_targets(street):
    record = read_drives(street)[0].frames[0]
    frame, grid = load_frame(record, 48, 28), record.labels().grid
    found = ray_targets(rays_of(frame.views, frame.depth, frame.features, 20_000), [], grid)
    assert isinstance(found, RayTargets)
    truth = record.labels()
    full = (found.seen == FULL).numpy()
    assert (truth.semantics[full] != 17).mean() > 0.5, "rays mostly end in what is full"
    empty = (found.seen == EMPTY).numpy() & truth.mask_camera
    assert (truth.semantics[empty] == 17).mean() > 0.85


def test_rare_things_count_more():
    texts, classes = torch.eye(3), torch.tensor([1, 1, 4])
    features = torch.tensor([[1.0, 0, 0]] * 4 + [[0, 1.0, 0]] * 2 + [[0, 0, 1.0]] * 2)
    assert torch.allclose(losses.rarity(features, texts, classes, 0.0), torch.ones(3))
    weight = losses.rarity(features, texts, classes, 1.0)  # shares of 3/4 and 1/4
    assert torch.allclose(weight, torch.tensor([2 / 3, 2 / 3, 2.0]))
    assert float(weight[losses.nearest(features, texts)].mean()) == pytest.approx(1)


def test_weights_of_full_voxels():
    density, seen = torch.full((2, 1, 1), 0.04), torch.full((2, 1, 1), 2)
    density[1] = 0.004
    plain = float(losses.occupancy_along_rays(density, seen, 0.04))
    first = float(losses.occupancy_along_rays(density, seen, 0.04, torch.tensor([1.0, 0.0])[:, None, None]))
    second = float(losses.occupancy_along_rays(density, seen, 0.04, torch.tensor([0.0, 1.0])[:, None, None]))
    assert first < plain < second and plain == pytest.approx((first + second) / 2)


def test_mirrored_rays():
    seen = torch.zeros(2, 3, 1, dtype=torch.uint8)
    seen[1, 0, 0] = FULL
    found = RayTargets(seen, torch.tensor([[1, 0, 0]]), torch.ones(1, 2)).mirrored()
    assert found.index.tolist() == [[1, 2, 0]] and int(found.seen[1, 2, 0]) == FULL
