"""NVOS: scribbles in one view of an LLFF scene, and the true mask of the thing in another view.

`scribbles/<scene>/pos_*.png` and `neg_*.png` over the frame in `reference_image/<scene>/`, `masks/<scene>/*_mask.png`
of the
target frame (Ren et al., CVPR 2022); name any of these three folders of a scene, or one that holds the files of all.
Without a reference image the frame is what a scribble's name says after its mark: `pos_0_IMG_4027.png`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ag2_ns.core.errors import UserError
from ag2_ns.eval.benchmark import Benchmark, Masks, Strokes
from ag2_ns.eval.formats.images import image_size, images_in, read_mask

_SCRIBBLE = re.compile(r"^(pos|neg)(?:itive|ative)?(?:_\d+)?(?:_(.+))?$")


def read(folder: Path) -> Benchmark:
    """One scene's scribbles and mask.

    Raises:
        UserError: either is missing, or scribbles of a view differ in size.
    """
    scene = folder.name
    above = folder.parent.parent
    places = [folder, folder / "scribbles", folder / "masks", above / "scribbles" / scene, above / "masks" / scene]
    paths = [p for place in dict.fromkeys(places) for p in images_in(place)]
    references = [*images_in(folder / "reference_image"), *images_in(above / "reference_image" / scene)]
    reference = references[0].stem if references else ""
    positive: dict[str, list[np.ndarray]] = {}
    negative: dict[str, list[np.ndarray]] = {}
    targets: dict[str, Path] = {}
    for path in paths:
        scribble = _SCRIBBLE.match(path.stem)
        if scribble is not None:
            side = positive if scribble.group(1) == "pos" else negative
            side.setdefault(reference or scribble.group(2) or "", []).append(read_mask(path))
        elif path.stem.endswith("_mask"):
            targets[path.stem.removesuffix("_mask")] = path
    if not positive or not targets:
        lacking = "pos_*.png scribbles" if not positive else "*_mask.png"
        raise UserError(f"{folder}: no {lacking}; NVOS needs scribbles of one frame and the mask of another")
    frame = min(positive)
    if not frame:
        raise UserError(f"{folder}: which frame the scribbles are drawn on is not said; add reference_image/{scene}/")
    shapes = {m.shape for m in positive[frame] + negative.get(frame, [])}
    if len(shapes) > 1:
        raise UserError(f"{folder}: scribbles of {frame} differ in size ({sorted(shapes)}); export them again")
    inside = np.any(positive[frame], axis=0)
    outside = np.any(negative[frame], axis=0) if frame in negative else np.zeros_like(inside)
    if not inside.any():
        raise UserError(f"{folder}: the positive scribbles of {frame} are empty; draw some")

    def masks(name: str) -> Masks:
        mask = read_mask(targets[name], 0)
        return {scene: mask} if mask.any() else {}

    sizes = {name: image_size(path) for name, path in targets.items()}
    return Benchmark(folder, "nvos", sizes, (scene,), masks, strokes=Strokes(frame, inside, outside))
