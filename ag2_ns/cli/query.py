"""`ag2 query`: what a text, clicks, a box or a file select, as files and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ag2_ns.cli.picking import Picking
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.core.answer import Answer
    from ag2_ns.core.view import NamedView
    from ag2_ns.session.opened import OpenScene


@dataclass
class Query(Picking):
    """Select in 3D, save the selection, and draw a mask and an overlay per view; print JSON.

    The JSON is all that goes to standard output.
    """

    output_dir: Path
    """Where selection.npz, masks/ and overlays/ go."""
    _: KW_ONLY
    max_views: int | Literal["all"] = 12
    """Draw this many views, evenly spread over the capture; all, or 0 for none."""

    def main(self) -> None:
        """Answer the query."""
        with redirect_stdout(sys.stderr):
            answer = self.answer()
        print(json.dumps(answer))

    def answer(self) -> dict[str, Any]:
        """Select, write the files, and say what was found."""
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.io.selection_file import save_selection

        self.check("select")
        if self.max_views != "all" and self.max_views < 0:
            raise UserError(f"--max-views {self.max_views}: give a number of views, 0 for none, or all")
        require_writable(self.output_dir)
        scene = self.open()
        (answer,) = self.picked(scene)
        found = answer.selection
        content = answer.to_json()
        content["anchors"] = int(found.anchor_mask.sum())
        content["gaussians"] = int(scene.edited.selected(found).sum())
        if not content["reason"] and scene.edited.removed(found):
            content["reason"] = "edits have removed it; AG2_EDITS=0 shows the scene as trained"
        again = (self.output_dir / "selection.npz").exists()
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            save_selection(self.output_dir / "selection.npz", found, scene.fingerprint)
        except OSError as error:
            raise UserError(f"{self.output_dir}: cannot be written ({error.strerror}); name another folder") from error
        content["selection"] = str(self.output_dir / "selection.npz")
        if again:  # pictures of another answer must not stay among those of this one
            for view in scene.views:
                for part in ("masks", "overlays"):
                    self._picture(part, view).unlink(missing_ok=True)
        if not found.empty:
            self._draw(scene, answer, spread(scene.views, self.max_views))
        return content

    def _draw(self, scene: OpenScene, answer: Answer, views: Sequence[NamedView]) -> None:
        """A mask and an overlay of each view."""
        import numpy as np
        import torch

        from ag2_ns.core.notice import view_progress
        from ag2_ns.io.atomic import write_png
        from ag2_ns.rendering import render
        from ag2_ns.rendering.overlay import SELECTED, marked, selection_share, to_uint8

        gaussians, chosen = scene.edited.gaussians, scene.edited.selected(answer.selection)[:, None]
        with view_progress(len(views), "drawing") as progress, torch.no_grad():
            for done, named in enumerate(views, 1):
                share = selection_share(gaussians, chosen, named.view, scene.rasterizer)[..., 0]
                mask = (share > SELECTED).cpu().numpy()
                picture = to_uint8(render(gaussians, named.view, scene.rasterizer, depth=False).rgb)
                pictures = {"masks": mask.astype(np.uint8) * 255, "overlays": marked(picture, mask)}
                for part, pixels in pictures.items():
                    write_png(self._picture(part, named), pixels)
                progress(done)

    def _picture(self, part: str, view: NamedView) -> Path:
        """Where the mask or the overlay of a view goes."""
        from ag2_ns.io.view_store import view_stem

        return self.output_dir / part / f"{view_stem(view.name)}.png"


def spread(views: Sequence[NamedView], count: int | Literal["all"]) -> list[NamedView]:
    """So many of the views, evenly spread over the capture, its last one included."""
    if count == "all" or count >= len(views):
        return list(views)
    return [views[round(k * (len(views) - 1) / max(count - 1, 1))] for k in range(count)]
