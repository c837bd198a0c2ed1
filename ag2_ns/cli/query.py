"""`ag2 query`: a selection from words, clicks or a box, as a file, masks and overlays."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import KW_ONLY, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ag2_ns.cli.picking import Picking
from ag2_ns.core.errors import UserError


@dataclass
class Query(Picking):
    """Select by text, clicks or a box; write the selection, a mask and an overlay per view; print JSON.

    The JSON is all that goes to standard output; what nerfstudio says while it loads goes to standard error.
    """

    output_dir: Path
    """Where selection.npz, masks/ and overlays/ go."""
    _: KW_ONLY
    all: bool = False
    """Take every instance that answers, not only the best."""
    max_views: int = 0
    """Write pictures of at most this many views, evenly spread; 0 writes all."""

    def main(self) -> None:
        """Answer the query."""
        with redirect_stdout(sys.stderr):
            answer = self.answer()
        print(json.dumps(answer))

    def answer(self) -> dict[str, Any]:
        """Select, write the files, and say what was found."""
        import numpy as np

        from ag2_ns.cli.output import require_writable
        from ag2_ns.cli.pictures import to_uint8
        from ag2_ns.core.notice import view_progress
        from ag2_ns.io.atomic import write_png
        from ag2_ns.io.selection_file import save_selection
        from ag2_ns.plugin.run import load_run
        from ag2_ns.rendering import render
        from ag2_ns.rendering.overlay import SELECTED, overlay, selection_share

        self.check_picking("select")
        if self.max_views < 0:
            raise UserError(f"--max-views {self.max_views}: give a number of views, or 0 for all")
        require_writable(self.output_dir)
        run = load_run(self.load_config)
        (found,) = self.picked(run, several=True if self.all else None)
        removed = "edits have removed it; AG2_EDITS=0 shows the scene as trained" if run.scene.removed(found) else ""
        answer = {
            "label": found.label,
            "found": not found.empty,
            "reason": found.reason or removed,
            "score": round(float(found.score), 4),
            "level": found.level,
            "nodes": list(found.nodes),
            "anchors": int(found.anchor_mask.sum()),
            "gaussians": int(run.scene.selected(found).sum()),
        }
        again = (self.output_dir / "selection.npz").exists()
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            save_selection(self.output_dir / "selection.npz", found, run.index)
            for part in ("masks", "overlays"):
                (self.output_dir / part).mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.output_dir}: cannot be written ({error.strerror}); name another folder") from error
        answer["selection"] = str(self.output_dir / "selection.npz")
        views = run.views("train") + run.views("eval") if again or not found.empty else []
        if again:  # pictures of another answer must not stay among those of this one
            for part, (name, _) in product(("masks", "overlays"), views):
                self._picture(part, name).unlink(missing_ok=True)
        if not found.empty:
            if self.max_views and len(views) > self.max_views:
                views = [views[i] for i in np.linspace(0, len(views) - 1, self.max_views).round().astype(int)]
            gaussians, backend = run.scene.gaussians, run.model.backend()
            chosen = run.scene.selected(found)[:, None]
            with view_progress(len(views), "drawing") as progress:
                for done, (name, view) in enumerate(views, 1):
                    share = selection_share(gaussians, chosen, view, backend)[..., 0]
                    mask = (share > SELECTED).cpu().numpy()
                    picture = to_uint8(render(gaussians, view, backend, depth=False).rgb)
                    pictures = {"masks": mask.astype(np.uint8) * 255, "overlays": overlay(picture, mask)}
                    for part, pixels in pictures.items():
                        write_png(self._picture(part, name), pixels)
                    progress(done)
        return answer

    def _picture(self, part: str, name: str) -> Path:
        """Where the mask or the overlay of a view goes."""
        from ag2_ns.io.view_store import view_stem

        return self.output_dir / part / f"{view_stem(name)}.png"
