"""3D Gaussian Splatting .ply files of each piece and of the rest."""

from __future__ import annotations

from pathlib import Path

import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.export.formats import ExportJob, Written
from ag2_ns.export.labels import Labelled, subset
from ag2_ns.io.atomic import writable
from ag2_ns.io.ply import write_gaussians


def write(job: ExportJob) -> Written:
    """Write PIECE.ply for each piece and rest.ply, or scene.ply."""
    rest = torch.ones(len(job.edited), dtype=torch.bool, device=job.scene.device)
    for mask in job.pieces.values():
        rest &= ~mask
    files = {f"{name}.ply": mask for name, mask in job.pieces.items()}
    if bool(rest.any()):
        files["rest.ply" if job.pieces else "scene.ply"] = rest
    written = []
    for name, mask in files.items():
        moved = job.frame.gaussians(job.edited.gaussians[mask])
        write_splat(job.folder / name, moved, subset(job.labelled, mask), job.offset)
        far = ", positions in double precision" if any(job.offset) else ""
        written.append((job.folder / name, f"{int(mask.sum())} Gaussians{far}"))
    return written


def write_splat(
    path: str | Path,
    gaussians: Gaussians,
    labelled: Labelled,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write Gaussians with the properties `instance` and `label_id`, atomically.

    The standard properties of 3D Gaussian Splatting come first, so every viewer opens the file; then two integers per
    Gaussian: `instance` (a key of labels.json, -1 for none) and `label_id` (a place in its list of labels). With an
    offset, which is added to them, positions are of type double.

    Raises:
        UserError: no Gaussians, or the file cannot be written.
    """
    if len(gaussians) == 0:
        raise UserError(f"{path}: no Gaussians to write; choose another selection, or undo edits")
    extra = {"instance": labelled.instance, "label_id": labelled.label_id()}
    with writable(path):
        write_gaussians(path, gaussians, extra, offset)
