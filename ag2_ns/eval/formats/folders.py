"""Layouts in which every mask is an image file.

| format | layout |
|---|---|
| `folders` | `<frame>/<text>.jpg` or `.png`, above grey level 10 (OpenGaussian, AG2aussian, COS3D; also below `gt/`) |
| `lerf-mask` | `<number>/<text>.png` (Gaussian Grouping); numbers are those of pictures: 41 is frame_00041 |
| `spin-nerf` | `<frame>.png` of one thing per folder, marked where not 0 (SPIn-NeRF, also `<frame>_mask.png`) |
"""

from __future__ import annotations

import re
from pathlib import Path

from ag2_ns.core.errors import UserError
from ag2_ns.eval.benchmark import Benchmark, Masks
from ag2_ns.eval.formats.images import MARKED, image_size, images_in, read_mask


def read_folders(folder: Path, form: str = "folders") -> Benchmark:
    """One folder per frame, one mask file per prompt.

    Raises:
        UserError: nothing of that form is there, or masks of a frame differ in size.
    """
    root = next((folder / name for name in ("gt", "test_mask") if (folder / name).is_dir()), folder)
    files = {sub.name: images_in(sub) for sub in sorted(root.iterdir()) if sub.is_dir()} if root.is_dir() else {}
    files = {frame: paths for frame, paths in files.items() if paths}
    if not files:
        raise UserError(f"{folder}: no <frame>/<text>.png or .jpg in it")
    problems, sizes = [], {}
    for frame, paths in files.items():
        found = {image_size(p) for p in paths}
        if len(found) > 1:
            raise UserError(f"{root / frame}: its masks differ in size ({sorted(found)}); export them again")
        sizes[frame] = found.pop()
        names = [text_of(p) for p in paths]
        doubled = sorted({n for n in names if names.count(n) > 1})
        problems += [f"{frame}: two files for {name!r}; united" for name in doubled]
    prompts = tuple(dict.fromkeys(text_of(p) for paths in files.values() for p in paths))

    def read(frame: str) -> Masks:
        out: Masks = {}
        for path in files[frame]:
            mask, text = read_mask(path, 0 if form == "lerf-mask" else MARKED), text_of(path)
            out[text] = out[text] | mask if text in out else mask
        return {text: mask for text, mask in out.items() if mask.any()}

    return Benchmark(folder, form, sizes, prompts, read, problems=tuple(problems))


def text_of(path: Path) -> str:
    """The prompt that a mask's file name stands for; underscores are spaces."""
    return path.stem.replace("_", " ").strip()


def read_spin_nerf(folder: Path) -> Benchmark:
    """One mask file per frame, of the thing that the folder is named after.

    Raises:
        UserError: no image there.
    """
    paths = images_in(folder)
    if not paths:
        raise UserError(f"{folder}: no mask images in it; SPIn-NeRF folders hold one PNG per frame")
    files = {re.sub(r"[_-]?(mask|pseudo)$", "", p.stem, flags=re.IGNORECASE): p for p in paths}
    sizes = {frame: image_size(p) for frame, p in files.items()}
    text = folder.name

    def read(frame: str) -> Masks:
        mask = read_mask(files[frame], 0)
        return {text: mask} if mask.any() else {}

    return Benchmark(folder, "spin-nerf", sizes, (text,), read)
