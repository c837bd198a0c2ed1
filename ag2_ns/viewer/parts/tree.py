"""The panel's part for the instance tree and for pictures: up, down, and what looks like a picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pictures
from PIL import ImageOps, UnidentifiedImageError

from ag2_ns.core.errors import UserError
from ag2_ns.query.image import Crop, Image
from ag2_ns.query.node import Node, above, below
from ag2_ns.rendering.overlay import to_uint8
from ag2_ns.viewer.elements import Buttons, Element, Upload
from ag2_ns.viewer.parts.part import Part

if TYPE_CHECKING:
    from ag2_ns.core.view import View
    from ag2_ns.viewer.layers import Box
    from ag2_ns.viewer.panel import Panel


class Walk(Part):
    """From the selection to the group around it or to one of its parts, and by a picture."""

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._from: list[int] = []
        self.steps = Buttons("Instance", {"Larger": self.larger, "Smaller": self.smaller})
        self.picture = Upload("Find what looks like a picture", "image/*", self._on_picture)
        self.like = Buttons("What looks like", {"Drag a box": self.drag})

    def elements(self) -> Sequence[Element]:
        """From top to bottom."""
        return (self.steps, self.picture, self.like)

    def larger(self) -> None:
        """Select what holds the selection."""

        def step() -> None:
            session = self.panel.session
            nodes = session.require_selection().nodes
            to = above(session.index().tree, nodes)
            self._from = [*self._from[-50:], nodes[0]]
            session.ask(Node(to))

        self.panel.ask(step)

    def smaller(self) -> None:
        """Select the part that the selection was reached from, or else the largest."""

        def step() -> None:
            session, tree = self.panel.session, self.panel.session.index().tree
            nodes = session.require_selection().nodes
            inside = [n for n in self._from if nodes and nodes[0] < n <= int(tree.last[nodes[0]])]
            session.ask(Node(below(tree, nodes, inside[-1] if inside else None)))

        self.panel.ask(step)

    def drag(self) -> None:
        """Find what looks like the part of the present picture that the next drag draws a box around."""
        self.panel.say("drag a box on the picture, around what to look for")
        self.panel.layers.drag_once(self._on_box)

    def _on_box(self, view: View, box: Box) -> None:
        def picture() -> tuple[np.ndarray, Crop]:
            session = self.panel.session
            with self.panel.host.lock():
                seen = to_uint8(session.outputs(view.to(session.scene().device))["rgb"])
            return seen, tuple(round(v * size) for v, size in zip(box, (view.width, view.height) * 2))

        self._look_for("the box", picture)

    def _on_picture(self, name: str, content: bytes) -> None:
        self._look_for(name, lambda: (decoded(name, content), None))

    def _look_for(self, name: str, picture: Callable[[], tuple[np.ndarray, Crop | None]]) -> None:
        def question() -> None:
            with self.panel.busy("act", f"looking for what is like {name} …"):
                pixels, crop = picture()
                found = self.panel.session.ask(Image(pixels, crop, name=f"like {name}"))
            if found.empty:
                raise UserError(found.reason)

        self.panel.ask(question)


def decoded(name: str, content: bytes) -> np.ndarray:
    """An uploaded picture's pixels.

    Raises:
        UserError: it is none.
    """
    try:
        with Pictures.open(io.BytesIO(content)) as file:
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Pictures.DecompressionBombError):
        raise UserError(f"{name}: cannot be read as a picture; upload a .jpg or .png") from None
