"""Occ3D-nuScenes: classes, grid and label files (Tian et al. 2023, "Occ3D", NeurIPS; section 3 and appendix)."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from ag2_ns.core.errors import UserError
from ag2_ns.io.atomic import write_atomic
from ag2_ns.ops.voxels import VoxelGrid

CLASSES = (
    "others",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction vehicle",
    "motorcycle",
    "pedestrian",
    "traffic cone",
    "trailer",
    "truck",
    "driveable surface",
    "other flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
    "free",
)
"""Names of the values of a label."""

FREE = 17
"""The value of an empty voxel."""

GRID = VoxelGrid((-40.0, -40.0, -1.0), 0.4, (200, 200, 16))
"""The ego frame (x forward, y left, z up, metres); index order x, y, z."""

COLOURS = np.array(
    [
        (80, 80, 80), (255, 120, 50), (255, 192, 203), (255, 220, 0), (0, 130, 245), (0, 220, 220), (200, 160, 0),
        (230, 30, 30), (255, 230, 130), (135, 60, 0), (150, 40, 230), (205, 80, 205), (140, 140, 140), (90, 30, 90),
        (150, 220, 90), (215, 205, 190), (20, 150, 40), (255, 255, 255),
    ],
    np.uint8,
)  # fmt: skip
"""sRGB colour of each value, near those of nuScenes-lidarseg."""


@dataclass(frozen=True)
class Labels:
    """What is where in the grid around the car, and what of it a sensor saw."""

    semantics: UInt8[np.ndarray, "X Y Z"]
    """Class of each voxel, 0 to 17."""
    mask_camera: Bool[np.ndarray, "X Y Z"]
    """Voxels that the cameras saw: only they are evaluated."""
    mask_lidar: Bool[np.ndarray, "X Y Z"]
    """Voxels that LiDAR beams reached over the drive."""
    grid: VoxelGrid = GRID


def read_labels(path: Path, grid: VoxelGrid = GRID) -> Labels:
    """Read a labels.npz of Occ3D.

    Args:
        path: the file.
        grid: the grid it is to have; a file that says another one of its own (ours do) has that.

    Raises:
        UserError: missing or damaged, a mask missing, values above 17, or another grid.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such label; Occ3D keeps them as gts/SCENE/TOKEN/labels.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{path}: not a readable label ({str(error) or type(error).__name__}); copy it anew") from error
    for name in ("semantics", "mask_camera", "mask_lidar"):
        if name not in found:
            raise UserError(f"{path}: holds no '{name}'; a label has semantics, mask_camera and mask_lidar")
    if "grid" in found:
        numbers = np.asarray(found["grid"], float).reshape(-1)
        if numbers.shape != (4,):
            raise UserError(f"{path}: its 'grid' is not x, y, z of a corner and a voxel size; write the label anew")
        own = VoxelGrid(tuple(numbers[:3].round(6).tolist()), float(round(numbers[3], 6)), found["semantics"].shape)
        if own != grid and grid is not GRID:
            raise UserError(f"{path}: its grid is {describe(own)}, not {describe(grid)}; take labels of one grid")
        grid = own
    for name in ("semantics", "mask_camera", "mask_lidar"):
        if found[name].shape != grid.shape:
            raise UserError(
                f"{path}: '{name}' has {'x'.join(map(str, found[name].shape))} voxels, not "
                f"{'x'.join(map(str, grid.shape))}; take labels of the same grid"
            )
    semantics = found["semantics"]
    if semantics.dtype.kind not in "iu" or semantics.min() < 0 or semantics.max() > FREE:
        raise UserError(f"{path}: classes must be whole numbers from 0 to {FREE}; take an Occ3D-nuScenes label")
    return Labels(semantics.astype(np.uint8), found["mask_camera"].astype(bool), found["mask_lidar"].astype(bool), grid)


def write_labels(path: Path, labels: Labels) -> None:
    """Write a label in Occ3D's layout, with the grid added: its lowest corner and the size of a voxel."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        semantics=labels.semantics.astype(np.uint8),
        mask_lidar=labels.mask_lidar.astype(np.uint8),
        mask_camera=labels.mask_camera.astype(np.uint8),
        grid=np.array([*labels.grid.low, labels.grid.voxel]),
    )
    write_atomic(Path(path), content.getvalue())


def describe(grid: VoxelGrid) -> str:
    """A grid in words."""
    return f"{'x'.join(map(str, grid.shape))} voxels of {grid.voxel:g} from {', '.join(f'{v:g}' for v in grid.low)}"
