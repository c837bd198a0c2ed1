"""What the folders of the panel have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ag2_ns.viewer.elements import Element

if TYPE_CHECKING:
    from ag2_ns.viewer.panel import Panel


class Part:
    """Some elements of the panel, in order.

    Elements' callbacks come in viser's threads; they hand a job to one of the panel's lanes and return.
    """

    title = ""
    """Of its folder; none for elements that stand in the panel itself."""
    unfolded = False
    """Whether the folder starts open."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    def elements(self) -> Sequence[Element]:
        """Its elements, from top to bottom."""
        raise NotImplementedError

    def install(self, server: Any) -> None:
        """Add it to the page of a viser server."""
        if not self.title:
            self._install(server)
            return
        with server.gui.add_folder(self.title, expand_by_default=self.unfolded):
            self._install(server)

    def _install(self, server: Any) -> None:
        for element in self.elements():
            element.install(server)

    def follow(self) -> None:
        """Show what the session has come to. Called without the training lock, from any thread."""
