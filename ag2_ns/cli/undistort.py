"""`ag2 undistort`: the pictures and cameras that training is served, for any other program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from ag2_ns.core.errors import UserError


@dataclass
class Undistort:
    """Write exactly the pictures and cameras that training is served: lenses undone, upright, downscaled.

    The new folder is a scene of its own, with plain perspective cameras: any program can segment or train on it. Masks
    made on its pictures fit DATA as well (`ag2 prepare DATA --masks-dir … --masks-on undistorted`).
    """

    data: tyro.conf.Positional[Path]
    """The scene: a folder with transforms.json, NeRF-synthetic files or a COLMAP model."""
    output_dir: tyro.conf.Positional[Path]
    """Where images/ and transforms.json go."""
    downscale_factor: int | None = None
    """Write images_2, images_4, ...; unset: as training chooses."""
    colmap_path: Path | None = None
    """Which COLMAP model of several, for instance sparse/1; unset: the one with most views."""
    overwrite: bool = False
    """Write into a folder that holds a scene already."""

    def main(self) -> None:
        """Write the scene and say what was done."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from ag2_ns.core.console import command_line, console
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.io.view_store import data_folder
        from ag2_ns.plugin.undistorted import served_images
        from ag2_ns.plugin.undistorted_copy import write_undistorted

        out = console()
        if self.output_dir.resolve() == data_folder(self.data).resolve():
            raise UserError(f"{self.output_dir}: is the scene itself; name another folder")
        require_writable(self.output_dir)
        if (self.output_dir / "transforms.json").exists() and not self.overwrite:
            raise UserError(f"{self.output_dir}: holds a scene already; name another folder, or add --overwrite")
        views = served_images(self.data, None, self.downscale_factor, self.colmap_path)
        what = TextColumn("{task.description}", markup=False)
        columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=out, transient=True) as bar:
            task = bar.add_task("undistorting", total=None)
            write_undistorted(
                self.data,
                views,
                self.output_dir,
                self.colmap_path,
                lambda done, total, name: bar.update(task, completed=done, total=total, description=name or "done"),
            )
        bent = sum(view.undistortion.route != "none" for view in views)
        out.print(f"{len(views)} pictures, {bent} of them undistorted: {self.output_dir}")
        out.print(f"prepare: {command_line('ag2', 'prepare', self.output_dir)}")
