"""The scene as COS3D's point cloud: the instance field as semantic_0 .. of every Gaussian."""

from __future__ import annotations

from ag2_ns.core.errors import UserError
from ag2_ns.export.formats import ExportJob, Written
from ag2_ns.io.atomic import writable
from ag2_ns.io.semantic_ply import write_semantic_splat


def write(job: ExportJob) -> Written:
    """Write semantic.ply: all Gaussians as trained, each with its unit's instance feature.

    Raises:
        UserError: the scene has no language field.
    """
    field = job.scene.language_field
    if field is None:
        raise UserError("semantic: this scene has no language field; make one with `ag2 lift --language field`")
    feature = field.instance if field.per_gaussian else field.instance[job.scene.require_index().gaussian_anchor]
    path = job.folder / "semantic.ply"
    with writable(path):
        write_semantic_splat(path, job.frame.gaussians(job.scene.gaussians), feature)
    return [(path, f"{len(feature)} Gaussians, {feature.shape[1]} features each, as trained")]
