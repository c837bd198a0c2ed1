"""Up and down the instance tree, and pictures, in the panel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.viewer.parts.tree import decoded


def test_larger_and_smaller(loaded, tab):
    tab.set("Find", "green ball", "Text")
    tab.until(lambda: "**green ball**" in tab.note())
    tab.press("Larger")
    tab.until(lambda: "**instance 0**" in tab.note())
    tab.press("Larger")
    tab.until(lambda: "largest instance" in tab.note())
    tab.press("Smaller")  # back to where it came from, though the red ball comes first
    tab.until(lambda: "**green ball**" in tab.note())
    tab.press("Smaller")
    tab.until(lambda: "no parts" in tab.note())


def test_a_picture_with_an_encoder_that_takes_none(loaded, tab):
    upload = tab.element("Find what looks like a picture", "Upload")
    assert upload["mime_type"] == "image/*"
    loaded.pipeline.AG2.panel.walk.picture.take("cup.png", png())
    tab.until(lambda: "takes no pictures" in tab.note())


def png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_decoded():
    assert decoded("cup.png", png()).shape == (20, 30, 3)
    with pytest.raises(UserError, match=r"text.png: cannot be read as a picture"):
        decoded("text.png", b"nonsense")
