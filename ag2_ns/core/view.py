"""A pinhole camera: what every renderer, query and exporter looks through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class View:
    """A pinhole camera in OpenCV convention (x right, y down, z forward); pixel centres at +0.5."""

    viewmat: Float[Tensor, "4 4"]
    """World to camera, scene units."""
    K: Float[Tensor, "3 3"]
    """Intrinsics in pixels."""
    width: int
    height: int

    def to(self, device: torch.device | str) -> View:
        """The same view with its matrices on `device`."""
        return View(self.viewmat.to(device), self.K.to(device), self.width, self.height)


@dataclass(frozen=True)
class NamedView:
    """A camera of the capture, as its picture is seen in training: without lens distortion."""

    name: str
    """The picture's file name; where several share one, with the folders that tell them apart."""
    key: str
    """Under which its masks are stored: the path within the scene's pictures, without suffix."""
    split: Literal["train", "eval"]
    """Whether it was trained on or held out."""
    view: View

    def to(self, device: torch.device | str) -> NamedView:
        """The same with its matrices on `device`."""
        return NamedView(self.name, self.key, self.split, self.view.to(device))
