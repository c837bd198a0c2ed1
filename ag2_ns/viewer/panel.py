"""The panel in the viewer: click, ask, edit, keep.

Clicks and callbacks come in the viewer's threads and must not hold them up, so each only hands a job to a lane and
returns. Jobs change the session, then the panel says what came of it and asks for a new picture.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from ag2_ns.core.errors import UnknownWords, UserError
from ag2_ns.rendering.first_view import first_view
from ag2_ns.session.session import Session
from ag2_ns.viewer.elements import Host, Note, Suggestions
from ag2_ns.viewer.layers import Layers
from ag2_ns.viewer.messages import describe
from ag2_ns.viewer.parts.change import Change
from ag2_ns.viewer.parts.find import Find
from ag2_ns.viewer.parts.place import Place
from ag2_ns.viewer.parts.save import Save
from ag2_ns.viewer.parts.show import Show
from ag2_ns.viewer.parts.tree import Walk
from ag2_ns.viewer.worker import Lane

if TYPE_CHECKING:
    from ag2_ns.scene.scene_index import SceneIndex

TITLE = "AG2aussian"
"""Of the panel."""

STEP = 0.05
"""Scene units that a tab begins ahead of its camera: nerfstudio draws the camera with its photograph some 0.03 in front
of it, which would hide the scene."""

SUGGESTED = 3
"""Most names that are offered where nothing is called what was typed."""


class Panel:
    """Everything in the viewer that belongs to one session."""

    def __init__(self, session: Session, host: Host) -> None:
        self.session, self.host = session, host
        self.layers = Layers()
        self._message = ""
        self._said_of: SceneIndex | None = None
        self._describing = Lock()
        self._busy: dict[str, str] = {}
        self.lanes = {
            "act": Lane("act", self._failed),
            "text": Lane("text", self._failed, latest_only=True),
            "slide": Lane("slide", self._failed, latest_only=True),
            "place": Lane("place", self._failed, latest_only=True),
            "clean": Lane("clean", self._failed),
            "keep": Lane("keep", self._failed),
        }
        self.note = Note("")
        self.find = Find(self)
        self.suggestions = Suggestions(self.find.take)
        self.walk = Walk(self)
        self.edit = Change(self)
        self.move = Place(self)
        self.show = Show(self)
        self.save = Save(self)

    def join(self) -> None:
        """There is a viewer: add everything to its page."""
        server = self.layers.server = self.host.server
        self.session.hold = self.host.lock
        with server.gui.add_folder(TITLE, order=self.host.place()) as folder:
            self.note.install(server)
            self.suggestions.install(server, folder)
            for part in (self.find, self.walk, self.edit, self.move, self.show, self.save):
                part.install(server)
        self.layers.listen(self.find.clicked, 4 * self.session.scene().extent)
        self._look()
        self.session.index_changed = self._instances_changed
        self.refresh()

    def _look(self) -> None:
        """Let every tab begin at a training camera that looks at what the capture is about."""
        views = [v.view for v in self.session.scene().of_split("train")]
        if views:
            camera = views[first_view(views)]
            pose = camera.viewmat.clone()
            pose[2, 3] -= STEP
            begin = replace(camera, viewmat=pose)
            self.layers.server.on_client_connect(lambda client: self.layers.look_through(client, begin))

    def _instances_changed(self) -> None:
        """Instances came or went, as a picture found: what was said of those before holds no longer."""

        def job() -> None:
            if self._said_of is not self.session.scene().index:
                self._set_message("")
            self._refresh()

        self.lanes["act"].submit(job)

    # Jobs.

    def act(self, change: Callable[[], object]) -> None:
        """Change the session in the background, while nothing is trained or drawn; then show it."""

        def held() -> None:
            with self.host.lock():
                change()

        self.ask(held)

    def ask(self, question: Callable[[], object]) -> None:
        """Ask the session something in the background, while training goes on; then show the answer."""

        def job() -> None:
            question()
            self._set_message("")
            self._refresh()

        self.lanes["act"].submit(job)

    def keep(self, write: Callable[[], str]) -> None:
        """Write something in the background, then say what."""

        def job() -> None:
            with self.busy("keep", "writing …"):
                self._set_message(write())
            self.refresh()

        self.lanes["keep"].submit(job)

    def wait(self, seconds: float = 60.0) -> bool:
        """Wait until all jobs are done; whether that came about in time."""
        return all(lane.wait(seconds) for lane in self.lanes.values())

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, UnknownWords) and error.nearest:
            self.say(f"nothing here is called “{error.text}”; nearest:")
            self.suggestions.show(error.nearest[:SUGGESTED])
        elif isinstance(error, UserError):
            self.say(str(error))
        else:
            traceback.print_exception(error)
            self.say(f"this did not work ({type(error).__name__}: {error}); the terminal says more")

    # Showing.

    def busy(self, key: str, text: str) -> Busy:
        """Shows a text in the panel while something slow is done."""
        return Busy(self, key, text)

    def say(self, text: str) -> None:
        """Show a line in the panel, or none."""
        self._set_message(text)
        self._describe()

    def _set_message(self, text: str) -> None:
        self._message, self._said_of = text, self.session.scene().index
        self.suggestions.show()

    def refresh(self) -> None:
        """Bring panel, 3D layer and picture up to date. Called without the training lock, from any thread."""
        self.lanes["act"].submit(self._refresh)

    def _refresh(self) -> None:
        for part in (self.find, self.show, self.move):
            part.follow()
        self._describe()
        self.draw()

    def draw(self) -> None:
        """Ask for a new picture in every tab."""
        self.host.redraw()

    def _describe(self) -> None:
        with self._describing:  # else a lane that is slow to write would overwrite what another said since
            self.note.content = describe(self.session, self._message, tuple(self._busy.values()))


class Busy:
    """A text in the panel for as long as something is done."""

    def __init__(self, panel: Panel, key: str, text: str) -> None:
        self._panel, self._key, self._text = panel, key, text

    def say(self, text: str) -> None:
        """Show another text."""
        self._panel._busy[self._key] = text
        self._panel._describe()

    def __enter__(self) -> Busy:
        self.say(self._text)
        return self

    def __exit__(self, *_: object) -> None:
        self._panel._busy.pop(self._key, None)
        self._panel._describe()
