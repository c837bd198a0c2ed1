"""The panel's folder that writes: edits, the selection, the selected piece."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ag2_ns.core.errors import UserError
from ag2_ns.viewer.elements import Buttons, Element, Field
from ag2_ns.viewer.parts.part import Part

if TYPE_CHECKING:
    from ag2_ns.viewer.panel import Panel


class Save(Part):
    """Keeping and exporting."""

    title = "Save"

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        keep = {"Edits": self._edits, "Selection": self._selection}
        self.keep = Buttons("Keep", {name: (lambda w=write: panel.keep(w)) for name, write in keep.items()})
        self.file = Field("text", "File", "selection.ply", hint="In the run's folder")
        self.export = Buttons("Piece", {"Export": lambda: panel.keep(self._export)})

    def elements(self) -> Sequence[Element]:
        """From top to bottom."""
        return (self.keep, self.file, self.export)

    def _edits(self) -> str:
        return f"saved {self.panel.session.save_edits()}"

    def _selection(self) -> str:
        return f"saved {self.panel.session.save_selection()}; ns-render and ns-viewer start with it"

    def _export(self) -> str:
        from ag2_ns.export.labels import label_edited, label_scene, subset
        from ag2_ns.export.splats import write_splat

        session = self.panel.session
        name = self.file.value.strip()
        if not name:
            raise UserError("the file has no name; write one, for example selection.ply")
        path = inside(session.folder(), name).with_suffix(".ply")
        with self.panel.host.lock(), torch.no_grad():
            rows, scene = session.selected(), session.edited()
            labelled = label_scene(session.index(), [session.require_selection()], session.state.level)
            mask = torch.zeros(len(scene), dtype=torch.bool, device=rows.device)
            mask[rows] = True
            piece, labels = scene.gaussians[mask], subset(label_edited(labelled, scene), mask)
        write_splat(path, piece, labels)
        return f"wrote {len(piece):,} Gaussians to {path}"


def inside(folder: Path, name: str) -> Path:
    """A file of the run's folder, by its name: whoever reaches the viewer must not write elsewhere on this machine.

    Raises:
        UserError: the name leads out of the folder, or into another one.
    """
    path = (folder / name).resolve()
    if path.parent != folder.resolve() or path.name in ("", ".", ".."):
        raise UserError(f"{name}: files go into the run's folder only; give a name without folders, say selection.ply")
    return path
