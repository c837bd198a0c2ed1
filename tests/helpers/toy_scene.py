"""A table with ellipsoids and boxes on it: exact ids by ray casting, noisy masks and features, and a splat of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import View

BACKGROUND, TABLE = 0, 1


@dataclass(frozen=True)
class Toy:
    """Ids 0 (background), 1 (table), 2.. (objects)."""

    views: list[View]
    ids: np.ndarray
    """[V, H, W]"""
    depth: np.ndarray
    """[V, H, W] along the camera's z."""
    gaussians: Gaussians
    owner: torch.Tensor
    """[N] the id that each Gaussian was sampled from; -1 for floaters."""


def make(objects=6, views=12, width=96, height=72, spacing=0.035, floaters=30, seed=0) -> Toy:
    rng = np.random.default_rng(seed)
    shapes = _shapes(objects, rng)
    cameras, ids, depths = [], [], []
    for k in range(views):
        view = _orbit(2 * np.pi * k / views, 0.9 + 0.5 * rng.random(), width, height)
        cameras.append(view)
        i, d = _cast(view, shapes)
        ids.append(i)
        depths.append(d)
    ids, depths = np.stack(ids), np.stack(depths)
    gaussians, owner = _splat(cameras, ids, depths, spacing, floaters, rng)
    return Toy(cameras, ids, depths, gaussians, owner)


def _shapes(objects, rng):
    """(kind, centre, half sizes): a table slab, then ellipsoids, boxes and thin plates apart from each other."""
    shapes = [("box", np.array([0, 0, -0.05]), np.array([1.5, 1.5, 0.05]))]
    places = []
    reach = 1.15
    while len(places) < objects:
        radius = rng.uniform(0.2, 0.3) * min(1.0, np.sqrt(6 / objects))
        for _ in range(2000):
            xy = rng.uniform(-reach, reach, 2)
            if all(np.hypot(*(xy - p)) > 1.15 * (radius + r) for p, r in places):
                break
        kind = ("ball", "box", "plate")[len(places) % 3]
        height = {"ball": radius, "box": radius * rng.uniform(0.5, 1.2), "plate": 0.03}[kind]
        half = np.array([radius, radius * rng.uniform(0.7, 1), height])
        if kind != "ball":
            half[:2] *= 0.75
        shapes.append(("ball" if kind == "ball" else "box", np.array([*xy, height]), half))
        places.append((xy, radius))
    return shapes


def _orbit(angle, elevation, width, height, distance=3.0):
    eye = distance * np.array([np.cos(angle) * np.cos(elevation), np.sin(angle) * np.cos(elevation), np.sin(elevation)])
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    f = 1.0 * width
    K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])
    return View(torch.tensor(pose, dtype=torch.float32), torch.tensor(K, dtype=torch.float32), width, height)


def rays(view):
    """World origin [3] and directions [H, W, 3] with unit camera z."""
    K, pose = view.K.double().numpy(), view.viewmat.double().numpy()
    x, y = np.meshgrid(np.arange(view.width) + 0.5, np.arange(view.height) + 0.5)
    local = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], -1)
    return -pose[:3, :3].T @ pose[:3, 3], local @ pose[:3, :3]


def _cast(view, shapes):
    origin, direction = rays(view)
    best, ids = np.full(direction.shape[:2], np.inf), np.zeros(direction.shape[:2], int)
    for number, (kind, centre, half) in enumerate(shapes, start=1):
        o, d = (origin - centre) / half, direction / half
        if kind == "ball":
            a, b, c = (d * d).sum(-1), (d * o).sum(-1), (o * o).sum() - 1
            disc = b * b - a * c
            t = np.where(disc > 0, (-b - np.sqrt(np.maximum(disc, 0))) / a, np.inf)
        else:
            with np.errstate(divide="ignore"):
                t1, t2 = (-1 - o) / d, (1 - o) / d
            near, far = np.minimum(t1, t2).max(-1), np.maximum(t1, t2).min(-1)
            t = np.where((near < far) & (near > 0), near, np.inf)
        ids[t < best] = number
        best = np.minimum(best, t)
    return ids, np.where(np.isfinite(best), best, 0)


def _splat(views, ids, depths, spacing, floaters, rng):
    """Gaussians at one surface point per voxel of `spacing`, plus floaters between the cameras and the table."""
    points, owners = [], []
    for view, i, d in zip(views, ids, depths):
        origin, direction = rays(view)
        hit = d > 0
        points.append(origin + direction[hit] * d[hit][:, None])
        owners.append(i[hit])
    points, owners = np.concatenate(points), np.concatenate(owners)
    _, first = np.unique(np.floor(points / spacing).astype(int), axis=0, return_index=True)
    points, owners = points[first], owners[first]
    points = np.concatenate([points, rng.uniform([-1, -1, 0.6], [1, 1, 1.4], (floaters, 3))])
    owners = np.concatenate([owners, np.full(floaters, -1)])
    n = len(points)
    means = torch.tensor(points, dtype=torch.float32)
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    scales = torch.full((n, 3), 0.5 * spacing)
    opacities = torch.where(torch.tensor(owners) < 0, 0.3, 0.95)
    sh = torch.zeros(n, 1, 3)
    return Gaussians(means, quats, scales, opacities.float(), sh), torch.tensor(owners)


def noisy_masks(ids, level, seed=0, background=False):
    """Segmenter-like masks of every view: dropped, eroded or dilated, split and merged; and the ids they came from.

    Returns a list of (MaskSet, [M] main id).
    """
    rng = np.random.default_rng(seed)
    out = []
    for image in ids:
        present = [i for i in np.unique(image) if background or i != BACKGROUND]
        masks = {i: image == i for i in present if (image == i).sum() > 12}
        done = []
        names = list(masks)
        taken = set()
        for i in names:
            mask = masks[i]
            if i in taken or rng.random() < 0.08 * level:
                continue
            if rng.random() < 0.06 * level:
                touching = np.unique(image[ndimage.binary_dilation(mask, iterations=2)])
                other = [j for j in touching if j in masks and j != i and j not in taken]
                if other:
                    j = other[rng.integers(len(other))]
                    mask = mask | masks[j]
                    taken.add(j)
            if rng.random() < 0.5 * min(level, 1):
                steps = 1 if level < 2 else rng.integers(1, 3)
                grow = ndimage.binary_dilation if rng.random() < 0.5 else ndimage.binary_erosion
                mask = grow(mask, iterations=steps)
            if rng.random() < 0.08 * level:
                y, x = np.nonzero(mask)
                if len(y):
                    angle = rng.uniform(0, np.pi)
                    side = (np.cos(angle) * (np.arange(image.shape[1])[None] - x.mean())
                            + np.sin(angle) * (np.arange(image.shape[0])[:, None] - y.mean())) > 0  # fmt: skip
                    done += [(mask & side, i), (mask & ~side, i)]
                    continue
            done.append((mask, i))
        done = [(m, i) for m, i in done if m.sum() > 8]
        dense = np.stack([m for m, _ in done]) if done else np.zeros((0, *image.shape), bool)
        out.append((MaskSet.from_dense(torch.from_numpy(dense)), np.array([i for _, i in done], int)))
    return out


def features(names, dim=64, noise=1.0, gap=1.0, seed=0):
    """Noisy copies of one text embedding per id with a modality gap: (per view [M, D], text [ids, D])."""
    rng = np.random.default_rng(seed)
    count = max((int(n.max()) for n in names if len(n)), default=0) + 1
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    shared, offset = unit(rng.normal(size=dim)), unit(rng.normal(size=dim))
    text = unit(unit(rng.normal(size=(count, dim))) + 1.5 * shared)
    images = [unit(text[n] + gap * 2 * offset + noise * 0.1 * rng.normal(size=(len(n), dim))) for n in names]
    return [torch.tensor(i, dtype=torch.float32).reshape(-1, dim) for i in images], torch.tensor(text).float()
