"""`ag2 edit`: change what was selected by words, clicks or a box; saved beside the run, never in the checkpoint."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING

from ag2_ns.cli.picking import Picking
from ag2_ns.core.errors import UserError
from ag2_ns.edit.config import EditConfig

if TYPE_CHECKING:
    from ag2_ns.edit.operations import Quaternion
    from ag2_ns.session.opened import OpenScene

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
    config: EditConfig = field(default_factory=EditConfig)
    """Thresholds of this edit that differ from the scene's."""
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
        from ag2_ns.core.console import console
        from ag2_ns.edit.edit_file import FILE_NAME, load_edits
        from ag2_ns.scene.scene_file import scene_path

        self._check()
        path, out = scene_path(self.load_config).with_name(FILE_NAME), console()
        if self.clear:
            # Without opening the scene: the file may belong to another one.
            if not path.parent.is_dir() or not scene_path(self.load_config).exists():
                raise UserError(f"{self.load_config}: no such run; give its config.yml with --load-config")
            out.print(f"{path}: removed" if path.exists() else "there were no edits")
            path.unlink(missing_ok=True)
            return
        scene = self.open(edits=False)
        scene = replace(scene, history=load_edits(path, scene.fingerprint))
        if self.undo:
            scene = replace(scene, history=scene.history.undo())
        elif self.redo:
            scene = replace(scene, history=scene.history.redo())
        elif not self.list:
            scene = self._edited(scene)
        if not self.list:
            scene.save_edits()
        lines = scene.history.describe()
        for number, line in enumerate(lines, 1):
            out.print(f"{number}. {line}")
        if not lines:
            out.print("no edits")
        if not self.list:
            out.print(f"saved: {path}")

    def _check(self) -> None:
        """Refuse what contradicts itself before a scene is opened."""
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
            self.check("edit")
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

    def _edited(self, scene: OpenScene) -> OpenScene:
        (found,) = self.picked(scene)
        copy = self.copy
        if copy is None and self.click is not None:
            copy = scene.clicked_copy(self.queries()[0], found)
        chosen = [name for name in ("delete", "isolate", "duplicate", "recolour") if getattr(self, name)]
        return scene.configured(self.config).edit(
            chosen[0] if chosen else "move",
            found,
            translation=self.move or (0.0, 0.0, 0.0),
            wxyz=self._rotation(),
            scale=1.0 if self.scale is None else self.scale,
            pivot=self.pivot,
            rgb=self.recolour or (0.0, 0.0, 0.0),
            strength=self.strength,
            copy=copy,
            cleanup=self.cleanup,
        )
