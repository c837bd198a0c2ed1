"""A ring of cameras around an object: where the capture's own cameras were, zoomed to fill the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.ops.bounds import robust_bounds
from ag2_ns.rendering.base import Rasterizer

FILL = 0.55
"""Share of the shorter side of the picture that the object's diameter takes."""

ZOOM = 4.0
"""Most that the focal length of the capture is multiplied by: beyond, splats look blurred."""

GAP = math.radians(120)
"""Where the capture leaves a larger sector around the object out, the camera sways instead of circling."""

LOWEST, HIGHEST = math.radians(8), math.radians(70)
"""Elevations above the object, seen from it."""

RAISE = tuple(math.radians(a) for a in (0, 10, 20, 30, 40))
"""Tried on top of the capture's median elevation until the object is not hidden."""

TRIES, TRY_SIDE = 8, 40
"""Cameras of each ring tried, and the shorter side of their pictures."""


def look_at(
    eye: Float[Tensor, "3"], target: Float[Tensor, "3"], up: Float[Tensor, "3"], K: Float[Tensor, "3 3"], size: Sequence
) -> View:
    """A camera at `eye` with `target` in the middle; `size` is width, height."""
    z = torch.nn.functional.normalize(target - eye, dim=0)
    x = torch.nn.functional.normalize(torch.linalg.cross(z, up), dim=0)
    rotation = torch.stack([x, torch.linalg.cross(z, x), z])
    viewmat = torch.eye(4, dtype=eye.dtype, device=eye.device)
    viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ eye
    return View(viewmat, K, int(size[0]), int(size[1]))


def orbit(
    gaussians: Gaussians,
    selected: Bool[Tensor, " N"],
    views: Sequence[View],
    rasterizer: Rasterizer,
    frames: int,
    size: tuple[int, int] | None = None,
) -> list[View]:
    """Cameras around the selected Gaussians that all look at their middle.

    The ring has the median distance of the capture's cameras from the object, where there is free space and the scene
    was seen. Around something larger it grows, but no further than the farthest of those cameras: a background reaches
    around all of them, and is a blur from beyond. The focal length makes the object fill the frame. The ring lies as
    low as the capture's median elevation, or higher where other things would hide the object. A capture that saw the
    object from one side only gets an arc, there and back.

    Args:
        gaussians: the scene.
        selected: the object.
        views: the capture's cameras, on the same device.
        rasterizer: a backend for that device.
        frames: number of cameras.
        size: width and height of the pictures; those of the first view by default. Made even.

    Raises:
        UserError: nothing is selected, or there are no cameras to learn from.
    """
    if not bool(selected.any()) or not views:
        raise UserError("orbit: nothing to circle around; select something first")
    low, high = robust_bounds(gaussians.means[selected], gaussians.opacities[selected])
    centre, radius = (low + high) / 2, float((high - low).norm()) / 2
    poses = torch.stack([v.viewmat for v in views]).to(centre)
    eyes = -(poses[:, :3, :3].transpose(1, 2) @ poses[:, :3, 3:]).squeeze(-1)
    up = torch.nn.functional.normalize(-poses[:, 1, :3].mean(0), dim=0)
    away = eyes - centre
    distances = away.norm(dim=1)
    distance = distances.median().clamp_min(1.2 * radius).clamp_max(distances.max())
    elevation = torch.asin(((away @ up) / distances.clamp_min(1e-9)).clamp(-1, 1)).median()
    first = away[0] - (away[0] @ up) * up
    if float(first.norm()) < 1e-6:
        first = torch.linalg.cross(up, torch.eye(3).to(up)[int(up.abs().argmin())])
    ahead = torch.nn.functional.normalize(first, dim=0)
    aside = torch.linalg.cross(up, ahead)
    turns = _turns(torch.atan2(away @ aside, away @ ahead), frames)
    width, height = size or (views[0].width, views[0].height)
    width, height = width - width % 2, height - height % 2
    scale = min(width, height) / min(views[0].width, views[0].height)
    usual = float(torch.stack([v.K[0, 0] for v in views]).median()) * scale
    focal = FILL * min(width, height) / 2 * float(distance) / max(radius, 1e-9)
    focal = min(max(focal, 0.7 * usual), ZOOM * usual)
    K = centre.new_tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])

    def ring(angle: float, at: Tensor) -> list[View]:
        flat = at.cos()[:, None] * ahead + at.sin()[:, None] * aside
        eyes = centre + distance * (math.cos(angle) * flat + math.sin(angle) * up)
        return [look_at(eye, centre, up, K, (width, height)) for eye in eyes]

    lowest = min(max(float(elevation), LOWEST), HIGHEST)
    angles = sorted({min(lowest + r, HIGHEST) for r in RAISE})
    probe = turns[:: max(1, len(turns) // TRIES)]
    seen = [_visible(gaussians, selected, ring(a, probe), rasterizer) for a in angles]
    best = next(a for a, s in zip(angles, seen) if s >= 0.9 * max(seen))
    return ring(best, turns)


def _turns(azimuth: Float[Tensor, " V"], frames: int) -> Float[Tensor, " F"]:
    """Angles of the ring: all around, or to and fro where the cameras were."""
    sorted_ = azimuth.sort().values
    gaps = torch.cat([sorted_[1:] - sorted_[:-1], sorted_[:1] + 2 * math.pi - sorted_[-1:]])
    widest = int(gaps.argmax())
    t = torch.arange(frames, device=azimuth.device) * (2 * math.pi / max(frames, 1))
    if len(azimuth) > 2 and float(gaps[widest]) <= GAP:
        return t
    start = sorted_[(widest + 1) % len(sorted_)]
    half = max((2 * math.pi - float(gaps[widest])) / 2, math.radians(15))
    middle = start + (2 * math.pi - gaps[widest]) / 2
    return middle + half * torch.sin(t)


@torch.no_grad()
def _visible(
    gaussians: Gaussians, selected: Bool[Tensor, " N"], views: Sequence[View], rasterizer: Rasterizer
) -> float:
    """Share of the object's own pixels that other things leave visible: between the mean and the worst of the views."""
    only = gaussians[selected]
    shares = []
    for view in views:
        small = _smaller(view, TRY_SIDE)
        shown, alone = (
            float(rasterizer.rasterize(g.means, g.quats, g.scales, g.opacities, values, small).values.sum())
            for g, values in (
                (gaussians, selected.to(gaussians.means.dtype)[:, None]),
                (only, only.opacities.new_ones(len(only), 1)),
            )
        )
        shares.append(shown / max(alone, 1e-9))
    return (sum(shares) / len(shares) + min(shares)) / 2


def _smaller(view: View, side: int) -> View:
    factor = min(1.0, side / min(view.width, view.height))
    K = view.K.clone()
    K[:2] *= factor
    return View(view.viewmat, K, max(1, int(view.width * factor)), max(1, int(view.height * factor)))
