"""Contact sheets: labelled rows and columns of pictures in one PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from ag2_ns.io.atomic import write_png

CELL = 320
"""Longest side of a picture on a sheet, pixels."""


def contact_sheet(
    path: Path, rows: list[list[UInt8[np.ndarray, "H W 3"]]], columns: list[str], labels: list[str], longest: int = CELL
) -> None:
    """Write one PNG with a heading per column and a label per row.

    Args:
        path: file to write (atomically).
        rows: pictures by row, then by column; all of one row have the same size.
        columns: heading of each column.
        labels: what each row shows.
        longest: side of a picture, pixels.

    Raises:
        UserError: the file cannot be written.
    """
    font = ImageFont.load_default(size=14)
    gap, head = 4, 20
    scale = [min(1.0, longest / max(row[0].shape[:2])) for row in rows]
    sizes = [(round(r[0].shape[1] * s), round(r[0].shape[0] * s)) for r, s in zip(rows, scale)]
    width = max(w for w, _ in sizes) * len(columns) + gap * (len(columns) + 1)
    height = head + sum(h + head + gap for _, h in sizes)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    cell = max(w for w, _ in sizes)
    for i, name in enumerate(columns):
        draw.text((gap + i * (cell + gap), 2), name, fill="black", font=font)
    y = head
    for row, size, label in zip(rows, sizes, labels):
        draw.text((gap, y), label, fill="dimgray", font=font)
        y += head
        for i, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture).resize(size, Image.LANCZOS), (gap + i * (cell + gap), y))
        y += size[1] + gap
    write_png(path, np.asarray(sheet))
