"""`ag2 render`: a video of a scene with what texts, clicks or boxes select, each in its own colour, with a legend."""

from __future__ import annotations

import json
import math
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ag2_ns.cli.picking import Picking
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from rich.console import Console

    from ag2_ns.core.view import View
    from ag2_ns.plugin.run import LoadedRun


@dataclass
class Render(Picking):
    """Render a video (.mp4, H.264) or PNG frames (a folder) of a run, edits included, with selections marked."""

    output_path: Path
    """An .mp4 file, or a folder for PNG frames."""
    _: KW_ONLY
    text: tyro.conf.UseAppendAction[list[str]] = field(default_factory=list)
    """What to mark; may be given several times. Unset takes AG2_QUERY or the selection saved with the run."""
    selection: tyro.conf.UseAppendAction[list[Path]] = field(default_factory=list)
    """A selection.npz of `ag2 query` to mark; may be given several times."""
    all: bool = False
    """Mark every instance that answers a text, not only the best."""
    orbit: bool = False
    """Circle around what is marked (the default where something is)."""
    interpolate: bool = False
    """Fly along the capture (the default where nothing is marked); more frames go further where it is long."""
    dataset: Literal["train", "test"] | None = None
    """Render the cameras of this split as they are."""
    camera_path: Path | None = None
    """Follow a camera path saved from the viewer's Render tab."""
    frames: int = 120
    """Frames of an orbit or a flight."""
    fps: float = 24.0
    """Frames per second; camera paths bring their own."""
    size: tuple[int, int] | None = None
    """Width and height in pixels; unset takes the camera's."""
    side_by_side: bool = False
    """Show the unmarked picture on the left."""
    legend: bool = True
    """Draw what the colours mean."""

    def main(self) -> None:
        """Render."""
        import numpy as np
        import torch
        from rich.progress import track

        from ag2_ns.cli.output import console, require_writable
        from ag2_ns.plugin.run import load_run
        from ag2_ns.rendering.video import color_of, draw_legend, frame_writer, picture

        self._check()
        require_writable(self.output_path.parent if self.output_path.suffix else self.output_path)
        run = load_run(self.load_config)
        out = console()
        order = ("text", "selection", "click", "box")
        found = self.picked(run, several=True if self.all else None, order=order)
        session = run.model.AG2.session
        with torch.no_grad():
            scene = session.scene()
            chosen = [scene.selected(s) for s in found]
            if not found and not session.state.empty:
                found, mask = (
                    [session.state.selection],
                    torch.zeros(len(scene), dtype=torch.bool, device=run.model.device),
                )
                mask[session.selected()] = True
                chosen = [mask]
            for s in found:
                out.print(f"{s.label}: " + (f"nothing found ({s.reason})" if s.empty else f"score {s.score:.2f}"))
            if found and not any(bool(c.any()) for c in chosen):
                raise UserError(f"nothing to mark: {found[0].reason or 'all that was found is deleted by edits'}")
            stack = torch.stack(chosen, 1) if chosen else scene.source.new_zeros(len(scene), 0).bool()
            views, fps, names = self._views(run, stack, out)
            entries = [
                (s.label if bool(c.any()) else f"{s.label} (nothing)", color_of(k))
                for k, (s, c) in enumerate(zip(found, chosen))
            ]
            backend, background = run.model.backend(), run.model._get_background_color()
            with frame_writer(self.output_path, fps) as write:
                for view, name in track(list(zip(views, names)), description="rendering", transient=True):
                    plain, marked = picture(
                        scene.gaussians, stack, view.to(run.model.device), backend, background, run.model._sh_degree()
                    )
                    if self.legend:
                        marked = draw_legend(marked, entries)
                    write(np.concatenate([plain, marked], 1) if self.side_by_side else marked, name)
        out.print(f"{len(views)} frames of {views[0].width}x{views[0].height}: {self.output_path}")

    def _check(self) -> None:
        ways = [self.orbit, self.interpolate, self.dataset is not None, self.camera_path is not None]
        if sum(ways) > 1:
            raise UserError("give one of --orbit, --interpolate, --dataset and --camera-path")
        self.check_picking()
        if self.frames < 1 or not self.fps > 0:
            raise UserError("--frames and --fps must be above 0")
        if self.size is not None and min(self.size) < 2:
            raise UserError("--size: give width and height of at least 2 pixels")
        if self.output_path.suffix.lower() not in (".mp4", ""):
            raise UserError(f"--output-path {self.output_path}: write .mp4, or name a folder for PNG frames")

    def _views(self, run: LoadedRun, chosen, out: Console) -> tuple[list[View], float, list[str | None]]:
        """Cameras, frames per second, and names of the frames where they have any."""
        from ag2_ns.io.view_store import view_stem
        from ag2_ns.rendering.flight import capture, flight
        from ag2_ns.rendering.orbit import orbit

        way = self.interpolate or self.dataset is not None or self.camera_path is not None
        if self.dataset is not None:
            named = run.views("train" if self.dataset == "train" else "eval")
            views, names, fps = [v for _, v in named], [view_stem(n) for n, _ in named], self.fps
        elif self.camera_path is not None:
            views, fps = read_camera_path(self.camera_path)
            names = [None] * len(views)
        elif self.orbit or (not way and chosen.shape[1]):
            if not chosen.shape[1]:
                raise UserError("--orbit: nothing to circle around; add --text 'red mug'")
            scene = run.model.AG2.session.scene()
            seen = [v for _, v in run.views("train")]
            views = orbit(scene.gaussians, chosen.any(1), seen, run.model.backend(), self.frames, self.size)
            return views, self.fps, [None] * len(views)
        else:
            views, share = flight(capture(run.pipeline.datamanager, run.model.device), self.frames)
            if share < 0.99:
                whole = math.ceil(self.frames / share / 10) * 10
                out.print(f"flies along {share:.0%} of the capture; --frames {whole} for all of it")
            names, fps = [None] * len(views), self.fps
        if self.size is not None:
            views = [resized(v, *self.size) for v in views]
        if not views:
            raise UserError("no cameras to render: the split is empty; choose another")
        return views, fps, names


def views_of(cameras: Cameras) -> list[View]:
    """The cameras of a nerfstudio path.

    Raises:
        UserError: cameras that are not perspective.
    """
    from nerfstudio.cameras.cameras import CameraType

    from ag2_ns.plugin.views import view_of

    if not bool((cameras.camera_type == CameraType.PERSPECTIVE.value).all()):
        raise UserError("camera path: only perspective cameras can be rendered; choose them in the viewer's Render tab")
    return [view_of(cameras[i : i + 1]) for i in range(len(cameras))]


def resized(view: View, width: int, height: int) -> View:
    """The same camera with another number of pixels: scaled to the new height, cut or widened to the new width."""
    from ag2_ns.core.view import View

    factor = height / view.height
    K = view.K.clone()
    K[:2] *= factor
    K[0, 2] += (width - view.width * factor) / 2
    return View(view.viewmat, K, width, height)


def read_camera_path(path: Path) -> tuple[list[View], float]:
    """Cameras and frames per second of a camera path saved from the viewer.

    Raises:
        UserError: no such file, or not a camera path.
    """
    from nerfstudio.cameras.camera_paths import get_path_from_json

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cameras = get_path_from_json(content)
        seconds = float(content["seconds"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; save a camera path in the viewer's Render tab") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: not a camera path ({type(error).__name__}: {error}); save it again") from error
    views = views_of(cameras)
    if not views:
        raise UserError(f"{path}: holds no cameras; add some in the viewer's Render tab")
    return views, len(views) / max(seconds, 1e-3)
