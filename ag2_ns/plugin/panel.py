"""Where nerfstudio's viewer meets the panel: it looks for controls in modules of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nerfstudio.viewer.viewer_elements import ViewerControl
from torch import nn

from ag2_ns.session.session import Session
from ag2_ns.viewer.panel import Panel


class Control(ViewerControl):
    """nerfstudio's viewer as the panel's `Host`, once there is one; calls `ready` then."""

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready

    def _setup(self, viewer: Any) -> None:
        super()._setup(viewer)
        self._ready()

    @property
    def live(self) -> bool:
        """Whether a viewer is there."""
        return getattr(self, "viser_server", None) is not None

    @property
    def server(self) -> Any:
        """The viser server, or None."""
        return getattr(self, "viser_server", None)

    def lock(self) -> AbstractContextManager:
        """Held while the model is trained or drawn."""
        lock = self.viewer.train_lock if self.live else None
        return nullcontext() if lock is None else lock

    def place(self) -> float | None:
        """Where the panel goes on the page: between what is always visible and the viewer's tabs."""
        above = getattr(self.viewer, "stats_markdown", None)
        return None if above is None else above.order + 0.5

    def redraw(self) -> None:
        """Ask for a new picture in every tab."""
        if self.live:
            self.viewer._trigger_rerender()

    def show_output(self, name: str, instead_of: str) -> bool:
        """Change the viewer's "Output type", if it shows `instead_of` and knows `name`; whether it did."""
        dropdown = getattr(getattr(self.viewer, "control_panel", None), "_output_render", None) if self.live else None
        if dropdown is None or dropdown.value != instead_of or name not in dropdown.options:
            return False
        dropdown.value = name
        return True


class PanelModule(nn.Module):
    """A module without parameters, so that the viewer finds its control."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.control = Control(lambda: self.panel.join())
        self.panel = Panel(session, self.control)
