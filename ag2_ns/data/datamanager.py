"""nerfstudio's full-image datamanager, able to run without a GPU and to add masks and features to a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image

from ag2_ns.errors import UserError


@dataclass
class AG2DataManagerConfig(FullImageDatamanagerConfig):
    """Full images, with masks and features of the current view when the scene was prepared."""

    _target: type = field(default_factory=lambda: AG2DataManager)


class AG2DataManager(FullImageDatamanager[InputDataset]):
    """Serves a camera and its image per step."""

    config: AG2DataManagerConfig

    def __init__(self, config: AG2DataManagerConfig, device: torch.device | str = "cpu", **kwargs: Any) -> None:
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise UserError("CUDA was asked for but torch sees no CUDA device; add --machine.device-type cpu")
        super().__init__(config=config, device=device, **kwargs)
        # The model learns the scene's extent from here, whichever dataparser is in use.
        self.train_dataset.metadata["camera_centres"] = self.train_dataset.cameras.camera_to_worlds[:, :3, 3].clone()

    def _load_images(self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]) -> list[dict]:
        # Without CUDA there is no pinned memory; "gpu" means "this device" to nerfstudio.
        where = cache_images_device if torch.cuda.is_available() else "gpu"
        dataset = self.train_dataset if split == "train" else self.eval_dataset
        if len(dataset) == 0:
            return []
        try:
            return super()._load_images(split, where)
        except (OSError, AssertionError, ValueError) as error:
            raise first_bad_image(dataset) or UserError(f"{self.config.data}: images cannot be loaded: {error}") from error

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """The next training camera and its batch."""
        return super().next_train(step)


def first_bad_image(dataset: InputDataset) -> UserError | None:
    """What is wrong with the first image of a dataset that cannot be served, or None."""
    for index, path in enumerate(dataset.image_filenames):
        path = Path(path)
        try:
            with Image.open(path) as image:
                image.load()
                size = image.size
        except FileNotFoundError:
            return UserError(f"{path}: no such image; restore it or remove its frame")
        except (OSError, SyntaxError, ValueError) as error:
            return UserError(f"{path}: not a readable image ({error}); replace it or remove its frame")
        camera = dataset.cameras[index]
        expected = int(camera.width.item()), int(camera.height.item())
        if size != expected:
            return UserError(
                f"{path}: the image has {size[0]}x{size[1]} pixels, its camera {expected[0]}x{expected[1]}; "
                "resize it or correct w and h"
            )
    return None
