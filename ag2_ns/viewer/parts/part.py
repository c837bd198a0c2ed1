"""What the folders of the panel have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nerfstudio.viewer.viewer_elements import ViewerElement

if TYPE_CHECKING:
    from ag2_ns.viewer.panel import Panel


class Part:
    """Some elements of the panel, in order.

    Not a module: nerfstudio looks for elements in modules, and puts those it finds under "Custom Elements", far below.
    Elements' callbacks come in viser's threads; they hand a job to one of the panel's lanes and return.
    """

    title = ""
    """Of its folder; none for elements that stand in the panel itself."""
    unfolded = False
    """Whether the folder starts open."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel

    def elements(self) -> Sequence[ViewerElement]:
        """Its elements, from top to bottom."""
        raise NotImplementedError

    def install(self) -> None:
        """Add it to the page."""
        control = self.panel.control
        if self.title:
            with control.folder(self.title, self.unfolded):
                self._install()
        else:
            self._install()

    def _install(self) -> None:
        for element in self.elements():
            element.install(self.panel.control.viser_server)

    def follow(self) -> None:
        """Show what the session has come to. Called without the training lock, from any thread."""
