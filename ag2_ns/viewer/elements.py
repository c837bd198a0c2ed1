"""What nerfstudio's viewer elements lack: a text to read, rows of buttons, and the viewer itself, once it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nerfstudio.viewer.viewer_elements import ViewerControl, ViewerElement

from ag2_ns.viewer.worker import Lane

AGAIN = 0.5
"""Seconds after which a text is sent once more."""


class Note(ViewerElement[str]):
    """Markdown to read.

    On a busy machine viser's page does not always show the last text it was sent: it parses texts in the background, in
    no certain order, and drops what comes in one frame with something that it stumbles over. So a text that stays is
    sent once more, a little different, when nothing else is under way.
    """

    def __init__(self, content: str) -> None:
        super().__init__("note")
        self._content = content
        self._again = Lane("note", lambda error: None, latest_only=True)  # fails where the viewer has gone

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
                self._again.submit(self._send_again, AGAIN)

    def _send_again(self) -> None:
        self.gui_handle.content = self._content + "\n"


class Buttons(ViewerElement[str]):
    """A row of buttons: what each does, by its caption.

    viser's own button groups keep the last caption as their value and stay silent when that is pressed again, so the
    value is emptied after every press.
    """

    def __init__(self, name: str, actions: Mapping[str, Callable[[], None]]) -> None:
        super().__init__(name)
        self.actions = dict(actions)

    def _create_gui_handle(self, viser_server: Any) -> None:
        self.gui_handle = viser_server.gui.add_button_group(self.name, tuple(self.actions))
        self.gui_handle.value = ""

    def install(self, viser_server: Any) -> None:
        """Add it to the page."""
        self._create_gui_handle(viser_server)
        self.gui_handle.on_click(lambda _: self._pressed())

    def _pressed(self) -> None:
        caption = self.gui_handle.value
        if caption:
            self.gui_handle.value = ""
            self.actions[caption]()


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

    def folder(self, title: str, unfolded: bool = True, on_top: bool = False) -> AbstractContextManager:
        """A folder of the page; elements installed inside of `with` go there.

        Args:
            title: its caption.
            unfolded: whether it starts open.
            on_top: between what is always visible and the viewer's tabs.
        """
        above = getattr(self.viewer, "stats_markdown", None) if on_top else None
        order = None if above is None else above.order + 0.5
        return self.viser_server.gui.add_folder(title, order=order, expand_by_default=unfolded)

    def redraw(self) -> None:
        """Ask for a new picture in every tab."""
        if self.live:
            self.viewer._trigger_rerender()

    def show_output(self, name: str, instead_of: str) -> bool:
        """Change the viewer's "Output type", if it shows `instead_of` and knows `name`; whether it did."""
        dropdown = getattr(getattr(self.viewer, "control_panel", None), "_output_render", None) if self.live else None
        if dropdown is None or dropdown.value != instead_of or name not in dropdown.options:
            return False
        dropdown.value = name
        return True
