"""A model of a few anchors in front of a ring of cameras, without data on disk."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import SceneBox

from ag2_ns.plugin.model import AG2Model
from ag2_ns.plugin.model_config import AG2ModelConfig
from ag2_ns.splat.optim import LeanAdam

WIDTH, HEIGHT, FOCAL = 40, 30, 36.0
POINTS = 60


def camera_ring(count: int = 4) -> Cameras:
    """Cameras that look at the origin (OpenGL convention), principal point off centre."""
    poses = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        eye = torch.tensor([2 * math.cos(angle), 2 * math.sin(angle), 1.0])
        z = eye / eye.norm()
        x = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), z)
        x = x / x.norm()
        poses.append(torch.stack([x, torch.linalg.cross(z, x), z, eye], dim=1))
    return Cameras(
        torch.stack(poses), FOCAL, FOCAL * 1.1, 19.0, 16.0, WIDTH, HEIGHT, camera_type=CameraType.PERSPECTIVE
    )


def tiny_model(seed: int = 0, points: int = POINTS, **options) -> AG2Model:
    """Anchors in the unit ball with random colours and children that are visible."""
    generator = torch.Generator().manual_seed(seed)
    xyz = torch.rand(points, 3, generator=generator) - 0.5
    rgb = torch.randint(0, 255, (points, 3), generator=generator, dtype=torch.uint8)
    centres = camera_ring().camera_to_worlds[:, :, 3]
    options = {"children_per_anchor": 2, "sh_degree": 1, "background_color": "black", "rasterizer": "cpu"} | options
    options = {"num_downscales": 0, "mask_loss_every": 1} | options
    box = SceneBox(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))
    return AG2ModelConfig(**options).setup(
        scene_box=box, num_train_data=4, metadata={"camera_centres": centres}, seed_points=(xyz, rgb)
    )


def optimizers_of(model: AG2Model) -> dict[str, torch.optim.Optimizer]:
    """Adam per parameter group, as the trainer builds it."""
    groups = {k: v for k, v in model.get_param_groups().items() if v}
    return {name: LeanAdam(params, lr=1e-3, eps=1e-15, fused=True) for name, params in groups.items()}


def attach(model: AG2Model, steps: int = 100, start: int = 0, masks: bool = False) -> dict[str, torch.optim.Optimizer]:
    """What a trainer does before its first step, on data with or without masks; returns the optimizers."""
    optimizers = optimizers_of(model)
    dataset = SimpleNamespace(cameras=camera_ring())
    trainer = SimpleNamespace(_start_step=start, config=SimpleNamespace(max_num_iterations=steps))
    attributes = SimpleNamespace(
        optimizers=SimpleNamespace(optimizers=optimizers, parameters={}),
        trainer=trainer,
        pipeline=SimpleNamespace(datamanager=SimpleNamespace(train_dataset=dataset, view_masks=lambda: masks or None)),
        grad_scaler=None,
    )
    model.get_training_callbacks(attributes)
    return optimizers


def training_step(model: AG2Model, optimizers, step: int, batch: dict | None = None) -> dict[str, torch.Tensor]:
    """One step as nerfstudio runs it; returns the losses."""
    model.train()
    model.before_step(step)
    camera = camera_ring()[step % 4 : step % 4 + 1]
    camera.metadata = {"cam_idx": step % 4}
    outputs = model(camera)
    if batch is None:
        batch = {"image": torch.full((HEIGHT, WIDTH, 3), 128, dtype=torch.uint8)}
    losses = model.get_loss_dict(outputs, batch)
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    sum(losses.values()).backward()
    for optimizer in optimizers.values():
        optimizer.step()
    model.after_step(step)
    return losses
