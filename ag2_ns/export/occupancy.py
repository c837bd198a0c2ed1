"""Any scene as a map to plan in: which voxels are full and of what, which were seen to be empty, which never seen."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.notice import view_progress
from ag2_ns.core.view import View
from ag2_ns.export.anchors import instance_colours
from ag2_ns.export.formats import ExportJob, Written, counted
from ag2_ns.export.free_space import FreeSpace, depth_views, free_space
from ag2_ns.export.voxels import write_cubes, write_glb, write_octree, write_pcd
from ag2_ns.io.atomic import write_atomic, write_png
from ag2_ns.ops.bounds import robust_bounds
from ag2_ns.ops.ranges import spread
from ag2_ns.ops.voxels import BRICK, VoxelGrid, precision_and_reach, voxel_ranges, voxelise

WIDEN = 12**-0.5
"""Standard deviation, in voxels, that is added to every Gaussian: that of a point anywhere in its voxel. Gaussians far
smaller than a voxel would otherwise fall between the centres."""

DENSE = 1 << 26
"""Grids of at most so many voxels are also stored whole, one byte a voxel."""

OCTREE_FREE = 50_000_000
"""Free voxels that are written to the octree at most; beyond, it holds the full ones alone."""

SOLIDS = 400_000
"""Full voxels that are drawn as cubes at most."""

UNSEEN, FREE, FULL = 0, 1, 2


@dataclass(frozen=True)
class FullVoxels:
    """The full voxels of a grid, one row each."""

    index: Int[np.ndarray, "M 3"]
    density: Float[np.ndarray, " M"]
    instance: Int[np.ndarray, " M"]
    """That which most of the density is of; -1 for none."""


@torch.no_grad()
def full_voxels(
    gaussians: Gaussians, instance: Int[Tensor, " N"], grid: VoxelGrid, density: float,
    done: Callable[[int], None] = lambda count: None,
) -> FullVoxels:  # fmt: skip
    """Voxels above a density, cube by cube: memory is that of a cube and of the result.

    Args:
        gaussians: the scene's.
        instance: of each, -1 for none.
        grid: where.
        density: sum of opacity times exp(-m^2 / 2) from which a voxel is full.
        done: called with the number of cubes looked at.
    """
    widened = _widen(gaussians, WIDEN * grid.voxel)
    first, stop = voxel_ranges(widened.means, precision_and_reach(widened, 3.0)[1], grid)
    met = (stop > first).all(1)
    widened, instance, first, stop = widened[met], instance[met], first[met], stop[met]
    rows, densities, owners = [], [], []
    order = _by_brick(first, stop, grid)
    for number, (corner, shape) in enumerate(grid.bricks(BRICK)):
        chosen = order.get(corner)
        if chosen is not None:
            names, local = torch.unique(instance[chosen], return_inverse=True)
            part = grid.part(corner, shape)
            best = torch.full(shape, 0.0, device=widened.device)
            owner = torch.full(shape, -1, dtype=torch.long, device=widened.device)
            total = torch.zeros(shape, device=widened.device)
            for start in range(0, len(names), 32):  # so many instances at a time
                some = (local >= start) & (local < start + 32)
                own = torch.nn.functional.one_hot(local[some] - start, min(32, len(names) - start)).float()
                voxels = voxelise(widened[chosen[some]], own, part)
                shares = voxels.values * voxels.density[..., None]
                most, which = shares.max(-1)
                owner = torch.where(most > best, names[start + which], owner)
                best = torch.maximum(best, most)
                total += voxels.density
            full = total > density
            rows.append((full.nonzero() + torch.tensor(corner, device=full.device)).int().cpu().numpy())
            densities.append(total[full].cpu().numpy())
            owners.append(owner[full].int().cpu().numpy())
        done(number + 1)
    if not rows:
        return FullVoxels(np.zeros((0, 3), np.int32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    return FullVoxels(np.concatenate(rows), np.concatenate(densities), np.concatenate(owners))


def _widen(gaussians: Gaussians, sigma: float) -> Gaussians:
    scales = (gaussians.scales.square() + sigma**2).sqrt()
    return Gaussians(gaussians.means, gaussians.quats, scales, gaussians.opacities, gaussians.sh)


def _by_brick(first: Tensor, stop: Tensor, grid: VoxelGrid) -> dict[tuple[int, int, int], Tensor]:
    """The Gaussians that touch each cube, by its first voxel."""
    low, high = first // BRICK, (stop - 1) // BRICK
    size = high - low + 1
    count = size.prod(1)
    owner, rest = spread(count)
    _, ny, nz = size[owner].unbind(1)
    brick = low[owner] + torch.stack((rest // (ny * nz), rest // nz % ny, rest % nz), 1)
    across = [-(-n // BRICK) for n in grid.shape]
    flat = (brick[:, 0] * across[1] + brick[:, 1]) * across[2] + brick[:, 2]
    order = torch.argsort(flat, stable=True)
    unique, counts = torch.unique_consecutive(flat[order], return_counts=True)
    parts = owner[order].split(counts.tolist())
    places = [(k // (across[1] * across[2]), k // across[2] % across[1], k % across[2]) for k in unique.tolist()]
    return {tuple(BRICK * p for p in place): part for place, part in zip(places, parts)}


def grid_around(gaussians: Gaussians, voxel: float) -> VoxelGrid:
    """A grid over the Gaussians but for floaters; its corners are multiples of the voxel size.

    Raises:
        UserError: there are no Gaussians, or it would have more voxels along an axis than 65,536.
    """
    if len(gaussians) == 0:
        raise UserError("occupancy: there are no Gaussians to fill voxels with; export something that is there")
    low, high = robust_bounds(gaussians.means, gaussians.opacities)
    first = torch.floor(low.double() / voxel - 1).long().tolist()
    last = torch.ceil(high.double() / voxel + 1).long().tolist()
    shape = tuple(b - a for a, b in zip(first, last))
    if max(shape) > 1 << 16 or max(map(abs, (*first, *last))) > 1 << 15:
        raise UserError(f"--voxel {voxel:g}: {max(shape)} voxels along one axis are too many; give a larger voxel")
    return VoxelGrid(tuple(a * voxel for a in first), voxel, shape)


def write(job: ExportJob) -> Written:
    """Write occupancy.npz, .ply, .glb, .pcd, .bt and a picture from above.

    Raises:
        UserError: a voxel size that makes no sense.
    """
    voxel, least = job.options.voxel, job.options.density
    if not 0 < voxel < float("inf"):
        raise UserError(f"--voxel {voxel:g}: give the edge of a voxel in scene units, more than 0")
    if not 0 < least < float("inf"):
        raise UserError(f"--density {least:g}: give a density above 0")
    gaussians, instance = job.frame.gaussians(job.edited.gaussians), job.labelled.instance
    if job.pieces:
        kept = torch.stack(list(job.pieces.values())).any(0)
        gaussians, instance = gaussians[kept], instance[kept]
    grid = grid_around(gaussians, voxel)
    bricks = sum(1 for _ in grid.bricks(BRICK))
    with view_progress(bricks, "filling voxels") as done:
        full = full_voxels(gaussians, instance, grid, least, done)
    views = [_moved(v.view, job) for v in job.scene.views if v.split == "train"]
    depth = depth_views(job.frame.gaussians(job.scene.gaussians), views, job.scene.rasterizer)
    with view_progress(bricks, "looking for free space") as done:
        free = free_space(depth, grid, voxel, done)
    names = {n: job.labelled.known[n].label for n in np.unique(full.instance).tolist() if n >= 0}
    written = [_npz(job.folder / "occupancy.npz", grid, full, free, names, least)]
    colours = instance_colours(torch.from_numpy(full.instance).long()).numpy()
    centres = np.array(grid.low) + (full.index + 0.5) * voxel
    rgb = colours.astype(np.uint32)
    fields = {
        "rgb": rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2],
        "instance": full.instance,
        "density": full.density,
    }
    write_pcd(job.folder / "occupancy.pcd", centres, fields)
    written.append((job.folder / "occupancy.pcd", "centres of full voxels"))
    if len(full.index) <= SOLIDS:
        for name, writer in (("occupancy.ply", write_cubes), ("occupancy.glb", write_glb)):
            writer(job.folder / name, grid, full.index, colours)
            written.append((job.folder / name, "cubes"))
    written.append(_octree(job.folder / "occupancy.bt", grid, full, free))
    write_png(job.folder / "occupancy.png", picture(grid, full, free, colours))
    written.append((job.folder / "occupancy.png", "from above: full in colours, free white, unseen grey"))
    return written


def picture(grid: VoxelGrid, full: FullVoxels, free: FreeSpace, colours: np.ndarray) -> np.ndarray:
    """The grid from above, x to the right and y up: highest full voxels, else whether any voxel was seen free."""
    flat = np.full((*grid.shape[:2], 3), 150, np.uint8)
    shapes = dict(grid.bricks())
    for first in (*free.whole, *free.mixed):
        seen = free.brick(first, shapes[first]).any(2)
        flat[first[0] : first[0] + seen.shape[0], first[1] : first[1] + seen.shape[1]][seen] = 255
    order = np.argsort(full.index[:, 2], kind="stable")
    x, y, z = full.index[order].T
    light = 0.5 + 0.5 * (z + 1) / grid.shape[2]
    flat[x, y] = (colours[order] * light[:, None]).astype(np.uint8)
    scale = max(1, 600 // max(grid.shape[:2]))
    step = max(1, max(grid.shape[:2]) // 2000)
    return np.ascontiguousarray(flat[::step, ::step].transpose(1, 0, 2)[::-1].repeat(scale, 0).repeat(scale, 1))


def _moved(view: View, job: ExportJob) -> View:
    """A camera in the frame of the files."""
    inverse = job.frame.inverse()
    shift = torch.eye(4, dtype=torch.double)
    shift[:3, :3], shift[:3, 3] = inverse.scale * inverse.rotation, inverse.translation
    viewmat = view.viewmat.cpu().double() @ shift
    viewmat[:3] *= job.frame.scale  # rotations have no scale
    return View(viewmat.to(view.viewmat), view.K, view.width, view.height)


def _npz(path: Path, grid: VoxelGrid, full: FullVoxels, free: FreeSpace, names: dict, least: float) -> tuple[Path, str]:
    arrays = {
        "low": np.array(grid.low), "voxel": np.array(grid.voxel), "shape": np.array(grid.shape),
        "index": full.index.astype(np.int32), "density": full.density.astype(np.float32),
        "instance": full.instance.astype(np.int32), "threshold": np.array(least),
        "names": np.frombuffer(json.dumps({str(k): v for k, v in names.items()}).encode(), np.uint8),
        "brick": np.array(BRICK), "free_whole": np.array(free.whole, np.int32).reshape(-1, 3),
        "free_mixed": np.array(list(free.mixed), np.int32).reshape(-1, 3),
        "free_bits": np.concatenate([*free.mixed.values(), np.zeros(0, np.uint8)]),
        "free_start": np.cumsum([0, *map(len, free.mixed.values())]),
    }  # fmt: skip
    if grid.count <= DENSE:
        state = np.zeros(grid.shape, np.uint8)
        shapes = dict(grid.bricks())
        for first in (*free.whole, *free.mixed):
            own = tuple(slice(a, a + n) for a, n in zip(first, shapes[first]))
            state[own] = free.brick(first, shapes[first])
        state[tuple(full.index.T)] = FULL
        arrays["state"] = state
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomic(path, content.getvalue())
    size = "x".join(map(str, grid.shape))
    return path, f"{size} voxels: {counted(len(full.index), 'full one')}, {free.count()} seen free"


def _octree(path: Path, grid: VoxelGrid, full: FullVoxels, free: FreeSpace) -> tuple[Path, str]:
    first = np.round(np.array(grid.low) / grid.voxel).astype(np.int64)
    with_free = free.count() <= OCTREE_FREE
    empty = None
    if with_free:
        empty = free.index()
        taken = np.isin(_flat(empty, grid), _flat(full.index, grid))
        empty = empty[~taken] + first
    write_octree(path, grid.voxel, full.index + first, empty)
    return path, "OctoMap: full and free" if with_free else "OctoMap: full ones alone, free ones are too many"


def _flat(index: np.ndarray, grid: VoxelGrid) -> np.ndarray:
    index = index.astype(np.int64)
    return (index[:, 0] * grid.shape[1] + index[:, 1]) * grid.shape[2] + index[:, 2]
