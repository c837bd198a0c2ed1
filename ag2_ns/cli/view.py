"""`ag2 view`: the viewer on a scene file, with or without the run that made it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from ag2_ns.cli.picking import Opened
from ag2_ns.core.errors import UserError


@dataclass
class View(Opened):
    """Look at a scene in the browser, as ns-viewer shows a run: ask, click, edit, export.

    Needs the scene file alone: point clouds that were lifted, and scenes that were moved, can be looked at.
    """

    _: KW_ONLY
    port: int = 7007
    """Of the page."""
    host: str = "127.0.0.1"
    """Address that it is served at; 0.0.0.0 lets every machine of the network in."""

    def main(self) -> None:
        """Serve until stopped."""
        from ag2_ns.core.console import console
        from ag2_ns.plugin.scene_viewer import serve
        from ag2_ns.plugin.trainer import AG2ViewerConfig

        if not 0 < self.port < 65536:
            raise UserError(f"--port {self.port}: give a number from 1 to 65535")
        scene = self.open()
        console().print(f"{len(scene.gaussians):,} Gaussians, {len(scene.views)} views: {scene.path}")
        serve(scene, AG2ViewerConfig(websocket_port=self.port, websocket_host=self.host))
