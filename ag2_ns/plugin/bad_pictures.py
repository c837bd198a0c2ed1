"""What is wrong with a picture that cannot be served, and what helps."""

from __future__ import annotations

from pathlib import Path

from PIL import UnidentifiedImageError

from ag2_ns.core.errors import UnreadableImage, UserError, WrongSize, first_line

PHONES = (".heic", ".heif", ".avif")
"""Formats of phones that Pillow does not read by itself."""

RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
"""Raw files of cameras."""


def unreadable(file: Path, error: Exception, what: str = "image") -> UserError:
    """What is wrong with a file that cannot be opened, and what to do about it."""
    if isinstance(error, FileNotFoundError):
        remedy = "restore it or remove its frame (ag2-data leaves such frames out)"
        return UserError(f"{file}: no such {what}; {remedy if what == 'image' else 'restore it or remove mask_path'}")
    if file.suffix.lower() in PHONES:
        return UnreadableImage(
            file, f"{file.suffix[1:].upper()} files are not read", "convert it to JPEG or PNG, under the same name"
        )
    if file.suffix.lower() in RAW:
        return UnreadableImage(file, "a camera's raw file", "develop it to JPEG or PNG, under the same name")
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else first_line(error)
    if what == "image":
        return UnreadableImage(file, reason)
    return UnreadableImage(file, reason, "replace it or remove its mask_path")


def wrong_size(file: Path, found: tuple[int, int], expected: tuple[int, int]) -> WrongSize:
    """A picture of another size than its camera's, with the remedy that gives a true scene."""
    (w, h), (cw, ch) = found, expected
    found, expected = (int(w), int(h)), (int(cw), int(ch))
    if (w, h) == (ch, cw):
        return WrongSize(
            file, found, expected, "it is turned by 90 degrees: turn the picture to how its camera was held"
        )
    if abs(w * ch - h * cw) <= max(w, cw, h, ch):
        ratio = w / cw
        return WrongSize(
            file,
            found,
            expected,
            f"put the full picture there, or multiply all of w, h, fl_x, fl_y, cx and cy by {ratio:g}",
        )
    return WrongSize(
        file,
        found,
        expected,
        "it has another shape than its camera: put the picture there that its pose was computed from",
    )
