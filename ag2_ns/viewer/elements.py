"""What nerfstudio's viewer elements lack: a text to read, and a control that says when the viewer is there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nerfstudio.viewer.viewer_elements import ViewerControl, ViewerElement


class Note(ViewerElement[str]):
    """Markdown to read."""

    def __init__(self, content: str) -> None:
        super().__init__("note")
        self._content = content

    def _create_gui_handle(self, viser_server: Any) -> None:
        self.gui_handle = viser_server.gui.add_markdown(self._content)

    def install(self, viser_server: Any) -> None:
        """Add it to the page."""
        self._create_gui_handle(viser_server)

    @property
    def content(self) -> str:
        """The text."""
        return self._content

    @content.setter
    def content(self, content: str) -> None:
        if content != self._content:
            self._content = content
            if self.gui_handle is not None:
                self.gui_handle.content = content


class Control(ViewerControl):
    """The viewer, once there is one; calls `ready` then."""

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def _setup(self, viewer: Any) -> None:
        super()._setup(viewer)
        self._ready()

    @property
    def live(self) -> bool:
        """Whether a viewer is there."""
        return getattr(self, "viser_server", None) is not None

    def lock(self) -> AbstractContextManager:
        """Held while the model is trained or drawn."""
        lock = self.viewer.train_lock if self.live else None
        return nullcontext() if lock is None else lock

    def show_output(self, name: str, instead_of: str) -> bool:
        """Change the viewer's "Output type", if it shows `instead_of` and knows `name`; whether it did."""
        dropdown = getattr(getattr(self.viewer, "control_panel", None), "_output_render", None) if self.live else None
        if dropdown is None or dropdown.value != instead_of or name not in dropdown.options:
            return False
        dropdown.value = name
        return True
