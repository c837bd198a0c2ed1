"""Camera paths as nerfstudio's viewer saves them (Render tab, "Generate Command")."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from ag2_ns.core.errors import MissingFile, UserError, first_line
from ag2_ns.core.view import View

SAVE = "save it in the viewer's Render tab"


def read_camera_path(path: Path) -> tuple[list[View], float]:
    """Cameras and frames per second of a camera path.

    Raises:
        UserError: no such file, not a camera path, no cameras in it, or cameras that are not perspective.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if str(content.get("camera_type", "perspective")).lower() != "perspective":
            raise UserError(f"{path}: only perspective cameras can be rendered; choose them in the viewer's Render tab")
        size = int(content["render_width"]), int(content["render_height"])
        views = [_view(camera, *size) for camera in content["camera_path"]]
        seconds = float(content["seconds"])
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file; {SAVE}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: not a camera path ({type(error).__name__}: {first_line(error)}); {SAVE}") from error
    if not views:
        raise UserError(f"{path}: no cameras in it; add key frames in the viewer's Render tab and save it again")
    return views, len(views) / max(seconds, 1e-3)


def _view(camera: dict, width: int, height: int) -> View:
    """One camera: `camera_to_world` (x right, y up, z backward) and the vertical field of view in degrees."""
    pose = torch.tensor(camera["camera_to_world"], dtype=torch.double).reshape(4, 4)
    pose[:3, 1:3] *= -1
    focal = 0.5 * height / math.tan(math.radians(float(camera["fov"])) / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return View(torch.linalg.inv(pose).float(), K, width, height)
