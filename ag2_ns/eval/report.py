"""An evaluation on disk: JSON, CSV and plots, with all that is needed to repeat it."""

from __future__ import annotations

import csv
import io
import json
import platform
from pathlib import Path

import numpy as np
import torch

from ag2_ns.eval.benchmark import Benchmark
from ag2_ns.eval.heat2d import THRESHOLD
from ag2_ns.eval.levels import FIXED
from ag2_ns.eval.masks3d import ALONE
from ag2_ns.eval.suite import Evaluation, headline, revision
from ag2_ns.io.atomic import write_atomic
from ag2_ns.rendering.overlay import SELECTED
from ag2_ns.scene.scene import Scene

THRESHOLDS = (
    f"thresholds: share of the pixel > {SELECTED:g}, alone: alpha > {ALONE:g}, 2d: stretched map > {THRESHOLD:g}; "
    f"levels: parts {FIXED['parts']:g}, things {FIXED['things']:g}, groups {FIXED['groups']:g}; missing counts 0"
)


def machine() -> dict:
    """Where an evaluation ran, and the memory that it took."""
    gpu = torch.cuda.is_available()
    memory = torch.cuda.max_memory_allocated() if gpu else _resident()
    return {
        "device": torch.cuda.get_device_name()
        if gpu
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "peak_memory_gb": round(memory / 2**30, 2),
        "torch": torch.__version__,
    }


def _resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def write_report(out: Path, scene: Scene, benchmark: Benchmark, found: Evaluation, options: dict) -> dict:
    """Write report.json, prompts.csv and, where there are prompts, plots.png.

    Args:
        out: the folder.
        scene: what was measured.
        benchmark: what it was measured with.
        found: what was measured.
        options: what it was asked with.

    Returns:
        What report.json holds.
    """
    content = {
        "headline": headline(found.results),
        "protocols": found.results,
        "ground_truth": str(benchmark.folder),
        "format": benchmark.format,
        "thresholds": THRESHOLDS,
        "problems": found.problems,
        "seconds": found.seconds,
        "gaussians": len(scene.gaussians),
        "code": revision(),
        "scene": dict(scene.provenance),
    } | machine() | options  # fmt: skip
    write_atomic(out / "report.json", (json.dumps(_finite(content), indent=2, default=str) + "\n").encode())
    if found.report is not None:
        write_atomic(out / "prompts.csv", _csv(found).encode())
        write_atomic(out / "plots.png", _plots(found, benchmark))
    return content


def _finite(value: object) -> object:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _csv(found: Evaluation) -> str:
    """A row per prompt and frame."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["prompt", "frame", "iou", "boundary_iou", "missing", "score"])
    for p in found.report.prompts:
        for frame, value, boundary in zip(p.view, p.iou, p.boundary_iou):
            table.writerow([p.label, frame, f"{value:.4f}", f"{boundary:.4f}", int(p.missing), f"{p.score:.4f}"])
    return text.getvalue()


def _plots(found: Evaluation, benchmark: Benchmark) -> bytes:
    """IoU against a thing's size, and how IoUs are spread."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    size, value = [], []
    for p in found.report.prompts:
        area = [m[p.label].mean() for m in (benchmark.masks(f) for f in benchmark.sizes) if p.label in m]
        if area and p.iou:
            size.append(100 * float(np.mean(area)))
            value.append(p.miou)
    left.scatter(size, value, s=14)
    left.set(xscale="log", xlabel="size of the thing, % of the picture", ylabel="mean IoU", ylim=(-0.02, 1.02))
    every = [v for p in found.report.prompts for v in p.iou]
    right.hist(every, bins=np.linspace(0, 1, 21))
    right.set(xlabel="IoU", ylabel="prompts x frames", xlim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
