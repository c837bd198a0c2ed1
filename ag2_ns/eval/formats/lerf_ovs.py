"""LERF-OVS labels: one JSON of polygons per frame, as the LangSplat authors annotated four LERF scenes.

`frame_00041.json` = {"info": {"name", "width", "height"}, "objects": [{"category", "segmentation": [[x, y], ...],
"bbox": [x0, y0, x1, y1], ...}]}. Objects of one category in a frame are one prompt: their masks are united and all
their
boxes count for localisation. Polygons are filled with OpenCV after rounding down to whole pixels, as LangSplat's
evaluator does, so that figures compare.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from ag2_ns.core.errors import UserError
from ag2_ns.eval.benchmark import Benchmark, Masks


@dataclass(frozen=True)
class Frame:
    """The labels of one frame."""

    image: str
    height: int
    width: int
    polygons: dict[str, list[Float[np.ndarray, "K 2"]]]
    """By prompt: x, y in pixels."""
    boxes: dict[str, list[tuple[float, float, float, float]]]
    """By prompt: x0, y0, x1, y1."""
    problems: tuple[str, ...]

    def masks(self) -> Masks:
        """The united mask of each prompt."""
        return {text: fill(shapes, self.height, self.width) for text, shapes in self.polygons.items()}


def fill(polygons: list[Float[np.ndarray, "K 2"]], height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """The union of polygons as a mask."""
    out = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(out, [polygon.astype(np.int32)], 1)
    return out.astype(bool)


def read_frame(path: Path) -> Frame:
    """Read one label file.

    Raises:
        UserError: no JSON of that form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        info, objects = content["info"], content["objects"]
        height, width = int(info["height"]), int(info["width"])
        image = str(info.get("name", path.stem))
        polygons: dict[str, list[np.ndarray]] = {}
        boxes: dict[str, list[tuple[float, float, float, float]]] = {}
        problems = []
        for k, thing in enumerate(objects):
            text = str(thing["category"]).strip()
            points = np.asarray(thing["segmentation"], float)
            if points.ndim == 3 and len(points) == 1:  # COCO's nesting
                points = points[0]
            if points.ndim == 1 and len(points) % 2 == 0:  # COCO's flat list
                points = points.reshape(-1, 2)
            if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
                problems.append(f"{path.name}: object {k} ({text}): its polygon has fewer than 3 points; left out")
                continue
            if (points < -1).any() or (points > [width + 1, height + 1]).any():
                problems.append(f"{path.name}: object {k} ({text}): its polygon leaves the {width}x{height} picture")
            polygons.setdefault(text, []).append(points)
            box = thing.get("bbox") or [*points.min(0), *points.max(0)]
            boxes.setdefault(text, []).append(tuple(float(v) for v in box))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a LERF-OVS label file ({type(error).__name__}: {error}); it needs info.width, info.height "
            "and objects with category and segmentation"
        ) from error
    if height < 1 or width < 1:
        raise UserError(f"{path}: the picture is {width}x{height}; info.width and info.height must be positive")
    return Frame(image, height, width, polygons, boxes, tuple(problems))


def read(folder: Path) -> Benchmark:
    """All `*.json` of a folder.

    Raises:
        UserError: none there, or one is damaged.
    """
    frames = {path.stem: read_frame(path) for path in sorted(folder.glob("*.json"))}
    prompts = list(dict.fromkeys(text for frame in frames.values() for text in frame.polygons))
    if not prompts:
        raise UserError(f"{folder}: no labels in it; a LERF-OVS folder holds frame_NNNNN.json files with objects")
    problems = tuple(line for frame in frames.values() for line in frame.problems)
    problems += tuple(f"{name}.json: no object in it" for name, frame in frames.items() if not frame.polygons)
    return Benchmark(
        folder,
        "lerf-ovs",
        {name: (frame.height, frame.width) for name, frame in frames.items()},
        tuple(prompts),
        lambda name: frames[name].masks(),
        problems=problems,
    )


def boxes_of(folder: Path) -> dict[str, dict[str, list[tuple[float, float, float, float]]]]:
    """Boxes by frame and prompt, for localisation accuracy."""
    return {path.stem: read_frame(path).boxes for path in sorted(folder.glob("*.json"))}
