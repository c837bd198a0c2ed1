"""One solid per instance as glTF: boxes or convex hulls."""

from __future__ import annotations

import torch

from ag2_ns.export.anchors import instance_colours
from ag2_ns.export.boxes import hull_of, write_glb
from ag2_ns.export.formats import ExportJob, Written, counted


def write(job: ExportJob) -> Written:
    """Write boxes.glb or hulls.glb of the instances that are shown."""
    solids, extras, colours = {}, {}, {}
    for number in sorted(job.shown):
        label = job.labelled.known[number].label
        name = f"{number} {label}" if label else str(number)
        if job.name == "hulls":
            solids[name] = hull_of(job.frame.gaussians(job.edited.gaussians[job.labelled.instance == number]))
        else:
            solids[name] = job.boxes[number]
        extras[name] = {"instance": number, "label": label}
        colours[name] = tuple(instance_colours(torch.tensor([number]))[0].tolist())
    path = job.folder / f"{job.name}.glb"
    write_glb(path, solids, extras, colours)
    words = counted(len(solids), "instance")
    if any(job.offset):  # glTF holds single precision
        words += f", without the world's offset {' '.join(f'{v:.3f}' for v in job.offset)}"
    return [(path, words)]
