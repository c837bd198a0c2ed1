"""The panel's folder that writes: edits, the selection, the selected piece."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from nerfstudio.viewer.viewer_elements import ViewerElement, ViewerText

from ag2_ns.core.errors import UserError
from ag2_ns.viewer.elements import Buttons
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
        self.file = ViewerText("File", "selection.ply", hint="Beside the run, or an absolute path")
        self.export = Buttons("Piece", {"Export": lambda: panel.keep(self._export)})

    def elements(self) -> Sequence[ViewerElement]:
        """From top to bottom."""
        return (self.keep, self.file, self.export)

    def _edits(self) -> str:
        return f"saved {self.panel.session.save_edits()}"

    def _selection(self) -> str:
        return f"saved {self.panel.session.save_selection()}; ns-render and ns-viewer start with it"

    def _export(self) -> str:
        from ag2_ns.export.splat import label_edited, label_scene, subset, write_splat

        session = self.panel.session
        name = self.file.value.strip()
        if not name:
            raise UserError("the file has no name; write one, for example selection.ply")
        path = Path(name).expanduser()
        path = path if path.is_absolute() else session.folder() / path
        path = path.with_suffix(".ply")
        with self.panel.control.lock(), torch.no_grad():
            rows, scene = session.selected(), session.scene()
            labelled = label_scene(session.index(), [session.require_selection()], session.state.level)
            mask = torch.zeros(len(scene), dtype=torch.bool, device=rows.device)
            mask[rows] = True
            piece, labels = scene.gaussians[mask], subset(label_edited(labelled, scene), mask)
        write_splat(path, piece, labels)
        return f"wrote {len(piece):,} Gaussians to {path}"
