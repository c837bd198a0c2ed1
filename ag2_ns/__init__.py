"""Anchor-graph Gaussian splatting for instance-level 3D scene understanding, as a nerfstudio method.

`ag2_ns.open(PATH)` opens a trained or lifted scene without nerfstudio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ag2_ns.session.opened import OpenScene

__version__ = "0.1.0"
__all__ = ["open"]


def open(path: str | Path, device: Any = None, edits: bool = True) -> OpenScene:
    """Open a scene.

    Args:
        path: a scene.safetensors, or the folder or the config.yml of its run.
        device: where to work, say "cpu"; by default CUDA where torch sees it.
        edits: with the edits kept beside it.

    Raises:
        UserError: no scene there, damaged, or written by a newer version; or edits of another run.
    """
    from ag2_ns.session.opened import open_with_edits

    return open_with_edits(path, device, edits)
