"""Predictions in the layouts that other projects' scripts read, so that those can score them.

| layout | files | read by |
|---|---|---|
| `folders` | `<frame>/<text>.png`, 0 and 255 | OpenGaussian, AG2aussian (`compute_lerf_iou.py`), COS3D |
| `lerf-mask` | `<frame>/<text>.png`, 0 and 255, spaces kept | Gaussian Grouping |
| `spin-nerf` | `<frame>.png`, 0 and 255 | SPIn-NeRF, NVOS |
| `lerf-ovs` | `<frame>.json` of polygons | label tools, LangSplat |
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.io.atomic import write_atomic

Predicted = Mapping[str, Bool[np.ndarray, "H W"]]


def safe_name(text: str) -> str:
    """A text as a file name: path separators and control characters become underscores."""
    return "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in text).strip(". ") or "_"


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "png")
    return buffer.getvalue()


def _folders(out: Path, frame: str, masks: Predicted) -> None:
    for text, mask in masks.items():
        write_atomic(out / frame / f"{safe_name(text)}.png", _png(mask))


def _spin_nerf(out: Path, frame: str, masks: Predicted) -> None:
    if len(masks) > 1:
        raise UserError(f"{out}: the spin-nerf layout holds one thing per folder, not {len(masks)}; choose folders")
    for mask in masks.values():
        write_atomic(out / f"{frame}.png", _png(mask))


def _lerf_ovs(out: Path, frame: str, masks: Predicted) -> None:
    objects = []
    height, width = next(iter(masks.values())).shape if masks else (0, 0)
    for text, mask in masks.items():
        # Outlines without their holes: the layout has none.
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for contour in contours:
            points = contour[:, 0].astype(float)
            if len(points) < 3:
                continue
            low, high = points.min(0), points.max(0)
            objects.append({
                "category": text, "group": len(objects) + 1, "segmentation": points.tolist(),
                "area": float(cv2.contourArea(contour)), "layer": 1.0, "bbox": [*low, *high], "iscrowd": 0, "note": "",
            })  # fmt: skip
    info = {"name": f"{frame}.jpg", "width": width, "height": height, "depth": 3, "note": ""}
    write_atomic(out / f"{frame}.json", (json.dumps({"info": info, "objects": objects}) + "\n").encode())


WRITERS: dict[str, Callable[[Path, str, Predicted], None]] = {
    "folders": _folders,
    "lerf-mask": _folders,
    "spin-nerf": _spin_nerf,
    "lerf-ovs": _lerf_ovs,
}
"""Name of a layout to what writes the masks of one frame."""


def write_prediction(layout: str, out: Path, frame: str, masks: Predicted) -> None:
    """Write the masks of one frame.

    Args:
        layout: a name of `WRITERS`.
        out: the folder of all frames.
        frame: image name without suffix.
        masks: by prompt.

    Raises:
        UserError: an unknown layout, or one that cannot hold these masks.
    """
    if layout not in WRITERS:
        raise UserError(f"--predictions {layout}: unknown layout; there are {', '.join(WRITERS)}")
    WRITERS[layout](out, frame, masks)
