"""`ag2 edit`: change what was selected by words, clicks or a box; saved beside the run, never in the checkpoint."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from ag2_ns.cli.picking import Picking
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.edit.history import Step
    from ag2_ns.edit.operations import Quaternion
    from ag2_ns.plugin.run import LoadedRun

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass
class Edit(Picking):
    """Delete, isolate, move, turn, scale, recolour or duplicate what a text, clicks, a box or a file selects.

    Lengths are in the run's frame. Edits are saved as ag2_edits.npz beside config.yml; ns-viewer, ns-render, ns-export
    and the other ag2 commands show them, and clicks and boxes mean what they show; `ag2 eval` measures the scene as
    trained.
    """

    _: KW_ONLY
    copy: int | None = None
    """Which copy: 0 the original, 1 the first duplicate, …; by default the one clicked, or else moving takes the
    original and the rest all."""
    delete: bool = False
    """Remove it, and close the hole in a flat support."""
    isolate: bool = False
    """Remove everything else."""
    move: tuple[float, float, float] | None = None
    """Move it: DX DY DZ."""
    rotate: tuple[str, float] | None = None
    """Turn it: AXIS DEGREES, where the axis is x, y, z or three numbers with commas."""
    scale: float | None = None
    """Make it so many times as large."""
    pivot: tuple[float, float, float] | None = None
    """Turn and scale about this point; its own middle by default."""
    duplicate: bool = False
    """Leave it where it is and move, turn and scale a copy."""
    recolour: tuple[float, float, float] | None = None
    """Give it a colour, light and shadow kept: R G B, 0 to 1."""
    strength: float = 1.0
    """How far to recolour, 0 to 1."""
    cleanup: bool = True
    """Look for what else belongs to a removed object, and close its hole."""
    undo: bool = False
    """Take the last step back."""
    redo: bool = False
    """Do again what was undone last."""
    clear: bool = False
    """Forget all edits."""
    list: bool = False
    """Only show the edits."""

    def main(self) -> None:
        """Edit."""
        from ag2_ns.cli.output import console
        from ag2_ns.core.fingerprint import Fingerprint
        from ag2_ns.edit.edit_file import edit_path, load_edits, save_edits
        from ag2_ns.edit.history import History
        from ag2_ns.plugin.run import load_run

        self._check()
        if self.load_config.is_dir():
            self.load_config = self.load_config / "config.yml"
        path = edit_path(self.load_config)
        out = console()
        if self.clear:
            # Without loading the run: the file may belong to another one.
            if not self.load_config.is_file():
                raise UserError(f"{self.load_config}: no such file; give the config.yml of a run with --load-config")
            out.print(f"{path}: removed" if path.exists() else "there were no edits")
            path.unlink(missing_ok=True)
            return
        run = load_run(self.load_config)
        fingerprint = Fingerprint.of(len(run.gaussians), run.model.anchor_xyz)
        history: History = load_edits(path, fingerprint)
        if self.undo:
            history = history.undo()
        elif self.redo:
            history = history.redo()
        elif not self.list:
            history = history.push(self._step(run, history))
        if not self.list:
            save_edits(path, history, fingerprint)
        lines = history.describe()
        for number, line in enumerate(lines, 1):
            out.print(f"{number}. {line}")
        if not lines:
            out.print("no edits")
        if not self.list:
            out.print(f"saved: {path}")

    def _check(self) -> None:
        """Refuse what contradicts itself before a run is loaded."""
        changes = [name for name in ("delete", "isolate", "recolour") if getattr(self, name)]
        places = [
            name
            for name in ("move", "rotate", "scale", "duplicate")
            if getattr(self, name) is not None and getattr(self, name) is not False
        ]
        manage = [name for name in ("undo", "redo", "clear", "list") if getattr(self, name)]
        kinds = [*changes, *(["/".join(places)] if places else []), *manage]
        if len(kinds) > 1:
            raise UserError(f"--{' and --'.join(kinds)}: do one after the other, one command each")
        if not kinds:
            raise UserError("nothing to do: give --delete, --isolate, --move, --rotate, --scale, --recolour, "
                            "--duplicate, --undo, --redo, --list or --clear")  # fmt: skip
        if not manage:
            self.check_picking("edit")
        if self.rotate is not None:
            self._rotation()

    def _rotation(self) -> Quaternion:
        from ag2_ns.edit.operations import axis_angle

        if self.rotate is None:
            return (1.0, 0.0, 0.0, 0.0)
        name, degrees = self.rotate
        try:
            x, y, z = AXES[name] if name in AXES else (float(v) for v in name.split(","))
        except ValueError:
            raise UserError(f"--rotate {name}: the axis must be x, y, z or three numbers with commas") from None
        return axis_angle((x, y, z), degrees)

    def _step(self, run: LoadedRun, history: object) -> Step:
        import torch

        from ag2_ns.edit import steps
        from ag2_ns.edit.apply import apply_edits
        from ag2_ns.query.answer import clicked_copy
        from ag2_ns.session.surroundings import surroundings

        index = run.require_index()
        (selection,) = self.picked(run)
        if self.copy is None and self.click is not None:
            self.copy = clicked_copy(run, self.click, selection)
        edits = history.edits  # type: ignore[attr-defined]
        scene = apply_edits(run.gaussians, index.gaussian_anchor, edits)
        place = {
            "translation": self.move or (0.0, 0.0, 0.0),
            "wxyz": self._rotation(),
            "scale": 1.0 if self.scale is None else self.scale,
            "pivot": self.pivot,
        }
        with torch.no_grad():
            if self.recolour is not None:
                return steps.recolour(scene, selection, self.recolour, self.strength, self.copy)
            copy = 0 if self.copy is None else self.copy
            if self.duplicate:
                return steps.duplicate(scene, selection, copy, **place)
            around = None
            if self.cleanup:
                around = surroundings(run.model, index, run.pipeline.datamanager, edited=bool(edits))
            if self.delete:
                return steps.delete(scene, selection, around, self.copy)
            if self.isolate:
                return steps.isolate(scene, selection, around, self.copy)
            return steps.transform(scene, selection, around, copy, **place)
