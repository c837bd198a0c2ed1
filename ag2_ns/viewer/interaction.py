"""The panel in nerfstudio's viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ag2_ns.viewer.session import Session

if TYPE_CHECKING:
    from ag2_ns.gaussians.model import AG2Model


class Panel(nn.Module):
    """Everything in the viewer that belongs to one model. Holds no parameters."""

    def __init__(self, model: AG2Model) -> None:
        super().__init__()
        self.session = Session(model)
