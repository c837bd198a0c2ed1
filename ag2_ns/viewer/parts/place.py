"""The panel's folder that moves, turns and scales a selection, by a gizmo and by numbers, with a preview."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ag2_ns.core.errors import UserError
from ag2_ns.edit import steps
from ag2_ns.edit.apply import centre_of
from ag2_ns.edit.operations import Transform
from ag2_ns.ops.bounds import robust_bounds
from ag2_ns.viewer.elements import Buttons, Element, Field
from ag2_ns.viewer.parts.part import Part

if TYPE_CHECKING:
    from ag2_ns.edit.apply import EditedScene
    from ag2_ns.edit.operations import Quaternion, Vector
    from ag2_ns.viewer.panel import Panel

ZERO = (0.0, 0.0, 0.0)


def quaternion(degrees: Vector) -> Quaternion:
    """The rotation w, x, y, z by angles about the fixed x, then y, then z axis."""
    x, y, z, w = Rotation.from_euler("xyz", degrees, degrees=True).as_quat().tolist()
    return (w, x, y, z)


def degrees(wxyz: Quaternion) -> Vector:
    """The inverse of `quaternion`."""
    w, x, y, z = wxyz
    angles = Rotation.from_quat([x, y, z, w]).as_euler("xyz", degrees=True)
    return tuple(float(a) for a in np.round(angles, 3))


class Place(Part):
    """Move, turn and scale what is selected, by a gizmo and by numbers, with a preview."""

    title = "Move"

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._of: tuple[Any, ...] = ()
        self._pivot: Vector = ZERO
        self._size = 1.0
        self._told: tuple[Vector, Vector, float] = (ZERO, ZERO, 1.0)
        self.gizmo = Field("checkbox", "Gizmo", False, panel.refresh, hint="Drag arrows and rings")
        self.shift = Field("vector3", "Move", ZERO, self._typed, step=0.01, hint="Scene units")
        self.turn = Field("vector3", "Turn", ZERO, self._typed, step=5.0, hint="Degrees about x, y, z")
        self.scale = Field("number", "Scale", 1.0, self._typed, hint="Factor")
        self.put = Buttons("Here", {"Place": self.place, "Duplicate": self.duplicate})

    def elements(self) -> Sequence[Element]:
        """From top to bottom."""
        return (self.gizmo, self.shift, self.turn, self.scale, self.put)

    def numbers(self) -> tuple[Vector, Vector, float]:
        """Move (scene units), turn (degrees) and scale, as the panel shows them."""
        move, turn = (tuple(float(v) for v in e.value) for e in (self.shift, self.turn))
        return move, turn, float(self.scale.value)

    def follow(self) -> None:
        """Start again when something else is selected or was edited; show or hide the gizmo."""
        panel = self.panel
        session = panel.session
        state = session.state
        of = (state.selection, state.copy, state.history)
        if len(of) != len(self._of) or any(a is not b for a, b in zip(of, self._of)):
            self._of = of
            self._tell(ZERO, ZERO, 1.0)
            session.set_preview(None)
            panel.layers.hide_gizmo()
        if state.empty or not self.gizmo.value:
            panel.layers.hide_gizmo()
        elif not panel.layers.gizmo_shown:
            try:
                with panel.host.lock():
                    self._grasp(session.edited())
            except UserError:
                return
            panel.layers.show_gizmo(self._pivot, self._size, self._dragged)
            self._set_gizmo()

    def _copy(self) -> int:
        """The copy that is meant: the original unless a duplicate was clicked."""
        return self.panel.session.state.copy or 0

    def _grasp(self, scene: EditedScene) -> None:
        """Find the middle and the size of what is selected."""
        found = self.panel.session.require_selection()
        mask = scene.selected(found) & (scene.copy == self._copy())
        self._pivot = centre_of(scene.gaussians, mask)
        low, high = robust_bounds(scene.gaussians.means[mask], scene.gaussians.opacities[mask])
        self._size = max(float((high - low).norm()), 1e-3)

    def _tell(self, move: Vector, turn: Vector, scale: float) -> None:
        """Show numbers that nobody typed."""
        self._told = (tuple(move), tuple(turn), float(scale))
        for element, value in zip((self.shift, self.turn, self.scale), self._told):
            if element.value != value:
                element.value = value

    def _set_gizmo(self) -> None:
        move, turn, _ = self.numbers()
        at = tuple(p + m for p, m in zip(self._pivot, move))
        self.panel.layers.place_gizmo(at, quaternion(turn))

    def _typed(self) -> None:
        """Somebody changed a number."""
        if self.numbers() != self._told:
            self.panel.lanes["place"].submit(lambda: self._preview(True))

    def _dragged(self, position: Vector, wxyz: Quaternion) -> None:
        """Somebody moved the gizmo."""

        def job() -> None:
            move = tuple(float(v) for v in np.round(np.subtract(position, self._pivot), 5))
            self._tell(move, degrees(wxyz), self.numbers()[2])
            self._preview(False)

        self.panel.lanes["place"].submit(job)

    def _preview(self, gizmo: bool) -> None:
        panel, session = self.panel, self.panel.session
        self._told = move, turn, scale = self.numbers()
        with panel.host.lock():
            session.set_preview(None)
            found = session.require_selection()
            self._grasp(session.edited())
            edit = Transform(
                session.members(), self._pivot, quaternion(turn), scale, move, label=found.label, copy=self._copy()
            )
            session.set_preview(edit)
        if gizmo:
            self._set_gizmo()
        panel.say("")
        panel.draw()

    def place(self) -> None:
        """Move what is selected to where the preview shows it; then, if wanted, close the hole in the background."""
        panel, session = self.panel, self.panel.session

        def change() -> None:
            scene, found, copy, where = self._asked()

            def make(around: steps.Surroundings | None) -> tuple:
                return steps.transform(scene, found, around, copy, **where)

            quick = make(None)
            session.edit(*quick)
            if copy == 0:
                panel.edit.tidy(quick, make)

        panel.act(change)

    def duplicate(self) -> None:
        """Leave what is selected and put a copy where the preview shows it, or beside it."""
        session = self.panel.session

        def change() -> None:
            scene, found, copy, where = self._asked()
            if where["translation"] == ZERO:
                where["translation"] = (round(0.8 * self._size, 4), 0.0, 0.0)
            session.edit(*steps.duplicate(scene, found, copy, **where), then_copy=scene.duplicates + 1)

        self.panel.act(change)

    def _asked(self) -> tuple[EditedScene, Any, int, dict[str, Any]]:
        """The scene without the preview, the selection, its copy, and where it is to go."""
        session = self.panel.session
        move, turn, scale = self.numbers()
        session.set_preview(None)
        scene = session.edited()
        with torch.no_grad():
            self._grasp(scene)
        where = {"translation": move, "wxyz": quaternion(turn), "scale": scale, "pivot": self._pivot}
        return scene, session.require_selection(), self._copy(), where
