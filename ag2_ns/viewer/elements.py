"""Elements of the panel on viser's page: inputs that hold a value before there is a page, texts, rows of buttons."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, Protocol

from ag2_ns.viewer.worker import Lane

AGAIN = (0.5, 2.0, 8.0)
"""Seconds after which a text is sent once more, and from then on."""


class Host(Protocol):
    """The viewer that the panel is part of."""

    server: Any
    """The viser server; None while there is no viewer."""

    def lock(self) -> AbstractContextManager:
        """Held while the model is trained or drawn."""
        ...

    def place(self) -> float | None:
        """Order of the panel on the page; None for the end."""
        ...

    def redraw(self) -> None:
        """Ask for a new picture in every tab."""
        ...

    def show_output(self, name: str, instead_of: str) -> bool:
        """Change what pictures show, if they show `instead_of` and know `name`; whether they did."""
        ...


class Element(Protocol):
    """Something on the page."""

    def install(self, server: Any) -> None:
        """Add it to the page of a viser server, in the folder that is open."""
        ...


Input = Literal["checkbox", "text", "number", "slider", "dropdown", "vector3", "rgb"]


class Field:
    """An input: its value, before and after there is a page.

    Args:
        kind: which of viser's inputs.
        label: beside it.
        value: the first one.
        changed: called in viser's threads whenever somebody, or the program, gives it another value.
        options: of viser's `add_KIND`: `hint`, `visible`, `options`, `min`, `max`, `step`.
    """

    def __init__(
        self, kind: Input, label: str, value: Any, changed: Callable[[], None] | None = None, **options: Any
    ) -> None:
        self.kind, self.label, self._value, self._changed, self._options = kind, label, value, changed, options
        self._handle: Any = None

    def install(self, server: Any) -> None:
        """Add it to the page."""
        self._handle = getattr(server.gui, f"add_{self.kind}")(self.label, initial_value=self._value, **self._options)
        if self._changed is not None:
            self._handle.on_update(lambda _: self._changed())

    @property
    def value(self) -> Any:
        """What it holds."""
        return self._value if self._handle is None else self._handle.value

    @value.setter
    def value(self, value: Any) -> None:
        if self._handle is None:
            self._value = value
        else:
            self._handle.value = value

    def choices(self, options: Sequence[str]) -> None:
        """Offer other choices in a dropdown; shows it."""
        self._options |= {"options": tuple(options), "visible": True}
        if self._handle is not None:
            self._handle.options = tuple(options)
            self._handle.visible = True


class Note:
    """Markdown to read.

    On a busy machine viser's page does not always show the last text it was sent: it parses texts in the background, in
    no certain order, and drops what comes in one frame with something that it stumbles over. So a text that stays is
    sent a few times more, a little different each time, when nothing else is under way.
    """

    def __init__(self, content: str) -> None:
        self._content = content
        self._handle: Any = None
        self._again = Lane("note", lambda error: None, latest_only=True)  # fails where the viewer has gone
        self._sending = threading.Lock()  # else an old text might be sent behind a new one

    def install(self, server: Any) -> None:
        """Add it to the page."""
        self._handle = server.gui.add_markdown(self._content)

    @property
    def content(self) -> str:
        """The text."""
        return self._content

    @content.setter
    def content(self, content: str) -> None:
        with self._sending:
            if content == self._content:
                return
            self._content = content
            if self._handle is not None:
                self._handle.content = content
                self._send_later(0)

    def _send_later(self, turn: int) -> None:
        if turn < len(AGAIN):
            self._again.submit(partial(self._send_again, turn), AGAIN[turn])

    def _send_again(self, turn: int) -> None:
        with self._sending:
            self._handle.content = self._content + "\n" * (turn + 1)
            self._send_later(turn + 1)


class Buttons:
    """A row of buttons: what each does, by its caption.

    viser's own button groups keep the last caption as their value and stay silent when that is pressed again, so the
    value is emptied after every press.
    """

    def __init__(self, name: str, actions: Mapping[str, Callable[[], None]]) -> None:
        self.name, self.actions = name, dict(actions)
        self._handle: Any = None

    def install(self, server: Any) -> None:
        """Add it to the page."""
        self._handle = server.gui.add_button_group(self.name, tuple(self.actions))
        self._handle.value = ""
        self._handle.on_click(lambda _: self._pressed())

    def _pressed(self) -> None:
        caption = self._handle.value
        if caption:
            self._handle.value = ""
            self.actions[caption]()


class Upload:
    """A button that takes a file.

    Args:
        caption: on the button.
        kind: MIME type of the files that the browser offers.
        take: called with the file's name and content, in viser's threads.
    """

    def __init__(self, caption: str, kind: str, take: Callable[[str, bytes], None]) -> None:
        self.caption, self.kind, self.take = caption, kind, take
        self._handle: Any = None

    def install(self, server: Any) -> None:
        """Add it to the page."""
        self._handle = server.gui.add_upload_button(self.caption, mime_type=self.kind)
        self._handle.on_upload(lambda _: self.take(self._handle.value.name, self._handle.value.content))


class Suggestions:
    """Buttons that come and go, each with a text to take.

    Args:
        take: called with the text of the button that is pressed.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._server: Any = None
        self._folder: Any = None
        self._buttons: list[Any] = []

    def install(self, server: Any, folder: Any) -> None:
        """Show them in a folder of the page from now on."""
        self._server, self._folder = server, folder

    def show(self, texts: Sequence[str] = ()) -> None:
        """Offer these texts in place of those before."""
        while self._buttons:
            self._buttons.pop().remove()
        if self._server is None:
            return
        with self._folder:
            for text in texts:
                button = self._server.gui.add_button(f"Take “{text}”")
                button.on_click(lambda _, text=text: self._take(text))
                self._buttons.append(button)
