"""Pictures of several selections with a legend, and writing them as H.264 or PNG."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.rendering import over, render
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.overlay import overlay

COLORS = (
    (1.00, 0.50, 0.05),
    (0.25, 0.75, 1.00),
    (0.30, 0.90, 0.35),
    (0.95, 0.35, 0.85),
    (1.00, 0.90, 0.20),
    (0.55, 0.50, 1.00),
    (0.20, 0.90, 0.80),
    (1.00, 0.35, 0.35),
)
"""Colours of selections, in order, then from the beginning again."""


NUMBERED = re.compile(r"\d{5,}\.png")
"""The name of a frame that has none of its own."""

MARK = ("Software", "ag2 render")
"""What the frames of a folder say of themselves, as PNG text."""


def color_of(number: int) -> tuple[float, float, float]:
    """The colour of the selection with this number."""
    return COLORS[number % len(COLORS)]


@torch.no_grad()
def picture(
    gaussians: Gaussians,
    chosen: Bool[Tensor, "N S"],
    view: View,
    rasterizer: Rasterizer,
    background: Float[Tensor, "3"],
    sh_degree: int | None = None,
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]:
    """The scene from a camera, plain and with S selections marked, each in its colour; occlusion respected."""
    out = render(
        gaussians,
        view,
        rasterizer,
        sh_degree=sh_degree,
        feature=chosen.float() if chosen.shape[1] else None,
        depth=False,
    )
    rgb = over(out.rgb.nan_to_num(0.0), out.alpha, background)
    marked = rgb
    if chosen.shape[1]:
        colors = rgb.new_tensor([color_of(k) for k in range(chosen.shape[1])])
        marked = overlay(rgb, out.feature.nan_to_num(0.0), colors)
    return tuple((p * 255 + 0.5).byte().cpu().numpy() for p in (rgb, marked))


def draw_legend(
    image: UInt8[np.ndarray, "H W 3"], entries: Sequence[tuple[str, tuple[float, float, float]]]
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with a legend in its upper left corner: a patch of colour and a text per entry."""
    if not entries:
        return image
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.fromarray(image).convert("RGBA")
    size = max(9, round(min(image.shape[:2]) / 26))
    font = ImageFont.load_default(size)
    pad, line = size // 2, round(size * 1.45)
    texts = [_fitted(font, text, image.shape[1] - line - 5 * pad) for text, _ in entries]
    width = max(font.getlength(t) for t in texts) + line + 3 * pad
    box = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(box)
    draw.rounded_rectangle((pad, pad, pad + width, 2 * pad + line * len(texts)), pad, fill=(0, 0, 0, 160))
    for k, (text, (_, color)) in enumerate(zip(texts, entries)):
        top = pad + pad // 2 + k * line
        inset = (line - size) // 2
        square = (2 * pad, top + inset, 2 * pad + size, top + inset + size)
        draw.rectangle(square, fill=(*(round(255 * c) for c in color), 255))
        draw.text((2 * pad + line, top + line / 2), text, font=font, fill=(255, 255, 255, 255), anchor="lm")
    return np.asarray(Image.alpha_composite(canvas, box).convert("RGB"))


def _fitted(font: Any, text: str, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@contextmanager
def frame_writer(path: Path, fps: float) -> Iterator[Any]:
    """Yields a function that takes frames: into an H.264 file (.mp4), or as PNG files into a folder (no suffix).

    The file appears when it is complete. Numbered frames that an earlier, longer rendering left in the folder are
    removed at the end, where these are numbered, too; no other files are. Odd sides lose a row or column: browsers play
    only 4:2:0 chroma.

    Raises:
        UserError: another suffix, or nothing can be written there.
    """
    if path.suffix.lower() not in (".mp4", ""):
        raise UserError(f"{path}: write .mp4, or name a folder for PNG frames")
    try:
        if path.suffix == "":
            path.mkdir(parents=True, exist_ok=True)
            frames = _Frames(path)
            yield frames.add
            frames.close()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
        fresh.touch()  # where nothing can be written, the encoder says so late and at length
        sink = _VideoSink(fresh, fps)
        try:
            try:
                yield sink.add
            finally:
                sink.close()
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another --output-path"
        ) from error


class _Frames:
    """PNG files in a folder, each marked as ours."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._written = folder, []

    def add(self, frame: UInt8[np.ndarray, "H W 3"], name: str | None = None) -> None:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        path = self.folder / f"{name or f'{len(self._written):05d}'}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = PngInfo()
        mark.add_text(*MARK)
        Image.fromarray(frame).save(path, pnginfo=mark)
        self._written.append(path)

    def close(self) -> None:
        """Remove numbered frames of an earlier rendering."""
        numbered = {path for path in self.folder.glob("*.png") if NUMBERED.fullmatch(path.name)}
        if numbered & set(self._written):
            for path in numbered - set(self._written):
                if _marked(path):
                    path.unlink()


def _marked(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.info.get(MARK[0]) == MARK[1]
    except (OSError, ValueError, SyntaxError):
        return False


class _VideoSink:
    """H.264 through ffmpeg, opened with the first frame, whose size all others have."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._writer: Any = None
        self._size = (0, 0)

    def add(self, frame: UInt8[np.ndarray, "H W 3"], name: str | None = None) -> None:
        import mediapy

        if self._writer is None:
            if not shutil.which("ffmpeg"):
                mediapy.set_ffmpeg(_bundled_ffmpeg())
            self._size = tuple(n - n % 2 for n in frame.shape[:2])
            self._writer = mediapy.VideoWriter(
                str(self.path),
                self._size,
                fps=self.fps,
                crf=18,
                encoded_format="yuv420p",
                ffmpeg_args="-movflags +faststart",
            )
            self._writer.__enter__()
        height, width = self._size
        if tuple(n - n % 2 for n in frame.shape[:2]) != (height, width):
            raise UserError("the views differ in size, which no video can; name a folder for PNG frames instead")
        with _encoder_errors():
            self._writer.add_image(np.ascontiguousarray(frame[:height, :width]))

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with _encoder_errors():
                writer.__exit__(None, None, None)


def _bundled_ffmpeg() -> str:
    """The ffmpeg of the imageio-ffmpeg wheel.

    Raises:
        UserError: there is none.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise UserError(
            "no ffmpeg to write a video with: pip install imageio-ffmpeg, or name a folder for PNG frames instead"
        ) from None


@contextmanager
def _encoder_errors() -> Iterator[None]:
    """What ffmpeg says when it fails, a page of it, as an `OSError` of its last few words."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1].rsplit(": ", 1)[-1]) from error
