"""One door for all layouts: reads the one that is named, or the one that a folder looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ag2_ns.core.errors import UserError
from ag2_ns.eval.benchmark import Benchmark
from ag2_ns.eval.formats import lerf_ovs, nvos, own
from ag2_ns.eval.formats.folders import read_folders, read_spin_nerf
from ag2_ns.eval.formats.images import images_in

FORMATS: dict[str, Callable[[Path], Benchmark]] = {
    "ids": own.read,
    "lerf-ovs": lerf_ovs.read,
    "nvos": nvos.read,
    "folders": read_folders,
    "lerf-mask": lambda folder: read_folders(folder, "lerf-mask"),
    "spin-nerf": read_spin_nerf,
}
"""Name to reader, in the order in which a folder is tried."""


def read_benchmark(folder: Path, form: str = "auto") -> Benchmark:
    """Read ground truth.

    Args:
        folder: where it lies, or a capture with a ground_truth/ inside.
        form: a name of `FORMATS`, or `auto`.

    Raises:
        UserError: no such folder, an unknown format, or nothing that can be read.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; --ground-truth takes a folder of labels, such as ids/ with labels.json"
        )
    if (folder / "ground_truth").is_dir():
        folder = folder / "ground_truth"
    if form == "auto":
        form = looks_like(folder)
    if form not in FORMATS:
        raise UserError(f"--format {form}: unknown; there are {', '.join(FORMATS)}")
    return FORMATS[form](folder)


def looks_like(folder: Path) -> str:
    """The format of a folder, by its files.

    Raises:
        UserError: none of the known ones.
    """
    if (folder / "labels.json").is_file() or (folder / "ids").is_dir():
        return "ids"
    if any(folder.glob("*.json")):
        return "lerf-ovs"
    around = [folder, folder / "scribbles", folder.parent.parent / "scribbles" / folder.name]
    if any(p.stem.startswith("pos") for place in around for p in images_in(place)):
        return "nvos"
    if (folder / "test_mask").is_dir():
        return "lerf-mask"
    if any(images_in(sub) for sub in [*folder.glob("*"), *folder.glob("gt/*")] if sub.is_dir()):
        return "folders"
    if images_in(folder):
        return "spin-nerf"
    raise UserError(
        f"{folder}: not a ground truth that is known; it may hold ids/ and labels.json, LERF-OVS frame_*.json, "
        "<frame>/<text>.png, test_mask/<number>/<text>.png, NVOS scribbles or SPIn-NeRF masks"
    )
