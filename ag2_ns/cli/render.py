"""`ag2 render`: a video of a scene with what texts, clicks or boxes select, each in its own colour, with a legend."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ag2_ns.cli.picking import PickingMany
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from ag2_ns.core.selection import Selection
    from ag2_ns.core.view import View
    from ag2_ns.session.opened import OpenScene


@dataclass
class Render(PickingMany):
    """Render a video (.mp4, H.264) or PNG frames (a folder) of a scene, edits included, with selections marked.

    Where nothing is asked for, AG2_QUERY or the selection saved with the run is marked.
    """

    output_path: Path
    """An .mp4 file, or a folder for PNG frames."""
    _: KW_ONLY
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

        from ag2_ns.core.console import console
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.rendering.video import color_of, draw_legend, frame_writer, picture

        self._check()
        require_writable(self.output_path.parent if self.output_path.suffix else self.output_path)
        scene, out = self.open(), console()
        found = [answer.selection for answer in self.picked(scene)] or saved_selections(scene)
        with torch.no_grad():
            edited = scene.edited
            chosen = [edited.selected(s) for s in found]
            for s in found:
                out.print(f"{s.label}: " + (f"nothing found ({s.reason})" if s.empty else f"score {s.score:.2f}"))
            if found and not any(bool(c.any()) for c in chosen):
                raise UserError(f"nothing to mark: {found[0].reason or 'all that was found is deleted by edits'}")
            stack = torch.stack(chosen, 1) if chosen else edited.source.new_zeros(len(edited), 0).bool()
            views, fps, names = self._views(scene, stack, out)
            entries = [
                (s.label if bool(c.any()) else f"{s.label} (nothing)", color_of(k))
                for k, (s, c) in enumerate(zip(found, chosen))
            ]
            background = torch.zeros(3, device=scene.device) if scene.background is None else scene.background
            with frame_writer(self.output_path, fps) as write:
                for view, name in track(list(zip(views, names)), description="rendering", transient=True):
                    plain, marked = picture(
                        edited.gaussians, stack, view.to(scene.device), scene.rasterizer, background, scene.sh_degree
                    )
                    if self.legend:
                        marked = draw_legend(marked, entries)
                    write(np.concatenate([plain, marked], 1) if self.side_by_side else marked, name)
        out.print(f"{len(views)} frames of {views[0].width}x{views[0].height}: {self.output_path}")

    def _check(self) -> None:
        ways = [self.orbit, self.interpolate, self.dataset is not None, self.camera_path is not None]
        if sum(ways) > 1:
            raise UserError("give one of --orbit, --interpolate, --dataset and --camera-path")
        self.check()
        if self.frames < 1 or not self.fps > 0:
            raise UserError("--frames and --fps must be above 0")
        if self.size is not None and min(self.size) < 2:
            raise UserError("--size: give width and height of at least 2 pixels")
        if self.output_path.suffix.lower() not in (".mp4", ""):
            raise UserError(f"--output-path {self.output_path}: write .mp4, or name a folder for PNG frames")

    def _views(self, scene: OpenScene, chosen, out: Console) -> tuple[list[View], float, list[str | None]]:
        """Cameras, frames per second, and names of the frames where they have any."""
        from ag2_ns.io.camera_path import read_camera_path
        from ag2_ns.io.view_store import view_stem
        from ag2_ns.rendering.flight import flight, in_order
        from ag2_ns.rendering.orbit import orbit

        way = self.interpolate or self.dataset is not None or self.camera_path is not None
        if self.dataset is not None:
            named = scene.of_split("train" if self.dataset == "train" else "eval")
            views, names, fps = [n.view for n in named], [view_stem(n.name) for n in named], self.fps
        elif self.camera_path is not None:
            views, fps = read_camera_path(self.camera_path)
            names = [None] * len(views)
        elif self.orbit or (not way and chosen.shape[1]):
            if not chosen.shape[1]:
                raise UserError("--orbit: nothing to circle around; add --text 'red mug'")
            seen = [n.view for n in scene.of_split("train")]
            views = orbit(scene.edited.gaussians, chosen.any(1), seen, scene.rasterizer, self.frames, self.size)
            return views, self.fps, [None] * len(views)
        else:
            views, share = flight(in_order(scene.views), self.frames)
            if share < 0.99:
                whole = math.ceil(self.frames / share / 10) * 10
                out.print(f"flies along {share:.0%} of the capture; --frames {whole} for all of it")
            names, fps = [None] * len(views), self.fps
        if self.size is not None:
            views = [resized(v, *self.size) for v in views]
        if not views:
            raise UserError("no cameras to render: the split is empty; choose another")
        return views, fps, names


def saved_selections(scene: OpenScene) -> list[Selection]:
    """What AG2_QUERY asks for, or else the selection saved beside the scene."""
    from ag2_ns.session.run_files import take_up
    from ag2_ns.session.session import Fixed, Session

    session = Session(Fixed(scene))
    take_up(session)
    return [] if session.state.empty else [session.state.selection]


def resized(view: View, width: int, height: int) -> View:
    """The same camera with another number of pixels: scaled to the new height, cut or widened to the new width."""
    from ag2_ns.core.view import View

    factor = height / view.height
    K = view.K.clone()
    K[:2] *= factor
    K[0, 2] += (width - view.width * factor) / 2
    return View(view.viewmat, K, width, height)
