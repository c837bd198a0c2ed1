"""nerfstudio's full-image datamanager, able to run without a GPU and to add masks and features to a batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.notice import notice
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_masks import PreparedMasks, ViewMasks
from ag2_ns.io.view_store import view_key
from ag2_ns.plugin.bad_pictures import wrong_size
from ag2_ns.plugin.dataparser import MASKS, AG2DataParserConfig
from ag2_ns.plugin.images import ImageDataset, picture_size, read_mask
from ag2_ns.plugin.undistorted import ServedImages, served_downscale, served_images, undistortions
from ag2_ns.plugin.views import PINHOLE, VIEWMAT, pinholes, viewmat_of


@dataclass
class AG2DataManagerConfig(FullImageDatamanagerConfig):
    """Full images, with masks and features of the current view when the scene was prepared."""

    _target: type = field(default_factory=lambda: AG2DataManager)
    prepare: bool = False
    """Run `ag2 prepare` with its defaults before training when the scene has no masks yet."""
    use_masks: bool = True
    """Add prepared masks and features to the batch; off trains colours only."""
    mask_cache_gb: float = 2.0
    """Memory for prepared masks, on the training device."""


class AG2DataManager(FullImageDatamanager[ImageDataset]):
    """Serves a camera, its image and (where the scene was prepared) its masks per step.

    A batch holds `image`, `masks` (`MaskSet`) and, where an encoder was at work, `mask_features` (M x D, float16, the
    image-text feature of each mask). The losses of this package read the masks; features are there for losses of other
    methods on this datamanager, and instances take theirs from `prepared` when a training ends.

    Nothing but file names is read at construction, which ns-viewer and ns-render go through as well.
    """

    config: AG2DataManagerConfig

    def __init__(self, config: AG2DataManagerConfig, device: torch.device | str = "cpu", **kwargs: Any) -> None:
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise UserError("CUDA was asked for but torch sees no CUDA device; add --machine.device-type cpu")
        if isinstance(config.dataparser, AG2DataParserConfig):
            config.dataparser.undoes_lenses = True
        super().__init__(config=config, device=device, **kwargs)
        # The model learns the scene's extent from here, whichever dataparser is in use.
        self.train_dataset.metadata["camera_centres"] = self.train_dataset.cameras.camera_to_worlds[:, :3, 3].clone()
        self._view_masks: ViewMasks | None = None
        self._masks_asked = False
        self._cameras: list[Cameras] = []
        self._names: dict[tuple[str, int], str] = {}
        self.wants_masks: Callable[[int], bool] = lambda step: True
        """Whether the model reads the masks of a training step. In other steps they are loaded, beside training, only
        where that view's have not been checked yet, so that what is wrong with them shows in the first rounds and not
        hours later."""

    def _load_images(self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]) -> list[dict]:
        # Without CUDA there is no pinned memory; "gpu" means "this device" to nerfstudio.
        where = cache_images_device if torch.cuda.is_available() else "gpu"
        dataset = self.train_dataset if split == "train" else self.eval_dataset
        if len(dataset) == 0:
            return []
        try:
            return super()._load_images(split, where)
        except (OSError, AssertionError, ValueError) as error:
            raise first_bad_image(dataset._dataparser_outputs) or UserError(
                f"{self.config.data}: images cannot be loaded ({first_line(error)})"
            ) from error

    def __getattr__(self, name: str) -> Any:
        if name == "train_pixel_sampler":  # ns-export pointcloud and poisson ask for it
            raise UserError(
                "ns-export pointcloud and poisson cast rays, and a splat has none; use `ns-export gaussian-splat`, or "
                "`ag2 export --all --format anchors` for a point cloud"
            )
        return super().__getattr__(name)

    # Masks.

    def view_masks(self) -> ViewMasks | None:
        """The scene's prepared masks, opened on first use; None where there are none or they are not wanted."""
        if not self._masks_asked:
            self._masks_asked = True
            if self.config.use_masks:
                self._view_masks = self._open_masks()
        return self._view_masks

    def _open_masks(self) -> ViewMasks | None:
        data, downscale = Path(self.config.data), served_downscale(self.train_dataset.image_filenames)
        budget = int(self.config.mask_cache_gb * 2**30)
        found = ViewMasks.open(data, downscale, self.device, budget)
        if found is None and self.config.prepare:
            from ag2_ns.plugin.prepare import Prepare

            factor = int(downscale) if downscale > 1 else None
            Prepare(data, downscale_factor=factor).prepare(self.served())
            found = ViewMasks.open(data, downscale, self.device, budget)
        if found is None:
            others = " or ".join(f"{d:g}" for d in MaskStore.downscales(data))
            choose = f" for these images (there are some for ag2-data --downscale-factor {others})" if others else ""
            command = (
                f"run {FeatureStore.command_for(data, downscale)} first, or " if self._prepare_sees_these() else ""
            )
            notice(
                f"{data} has no masks{choose}: training colours only. For instances to click and name, {command}add "
                "--pipeline.datamanager.prepare True"
            )
        return found

    def served(self) -> ServedImages:
        """All pictures of the scene as its dataparser gives them; nothing is read."""
        parser = deepcopy(self.config.dataparser)
        if isinstance(parser, AG2DataParserConfig):
            parser.load_points = False
        return served_images(Path(self.config.data), parser)

    def _prepare_sees_these(self) -> bool:
        """Whether `ag2 prepare` on this folder, which knows no other dataparser, works on the same pictures."""
        factor = served_downscale(self.train_dataset.image_filenames)
        ours = {
            Path(file).resolve(): dataset.undistortions[row]
            for dataset in (self.train_dataset, self.eval_dataset)
            for row, file in enumerate(dataset.image_filenames)
        }
        if self.train_dataparser_outputs.alpha_color is not None:  # transparency is filled, and with that other pixels
            return False
        try:
            views = served_images(Path(self.config.data), downscale_factor=int(factor) if factor > 1 else None)
        except UserError:
            return False
        return ours.items() <= {view.file.resolve(): view.undistortion for view in views}.items()

    def view_name(self, split: Literal["train", "eval"], index: int) -> str:
        """The name under which a view's masks are stored."""
        if (split, index) not in self._names:
            dataset = self.train_dataset if split == "train" else self.eval_dataset
            self._names[split, index] = view_key(dataset.image_filenames[index], Path(self.config.data))
        return self._names[split, index]

    def _served(self, split: Literal["train", "eval"], index: int) -> Tensor:
        image = (self.cached_train if split == "train" else self.cached_eval)[index]["image"]
        if image.dtype == torch.uint8:
            return image
        return (image * 255).round().to(torch.uint8)

    def prepared(self, split: Literal["train", "eval"], index: int) -> PreparedMasks | None:
        """Masks and features of one view, checked against its image the first time."""
        masks = self.view_masks()
        if masks is None:
            return None
        return masks.get(self.view_name(split, index), lambda: self._served(split, index))

    def _with_masks(self, batch: dict[str, Any], split: Literal["train", "eval"], index: int) -> dict[str, Any]:
        prepared = self.prepared(split, index)
        if prepared is not None:
            batch["masks"] = prepared.masks
            if prepared.features is not None:
                batch["mask_features"] = prepared.features
        return batch

    def _train_camera(self, index: int) -> Cameras:
        """A training camera of one's own on the device; taking it out of the batch anew would cost every step 1 ms."""
        if not self._cameras:
            cameras = self.train_dataset.cameras.to(self.device)
            for k, pinhole in enumerate(pinholes(cameras)):
                camera = cameras[k : k + 1]
                known = {"cam_idx": k, PINHOLE: pinhole, VIEWMAT: viewmat_of(camera.camera_to_worlds).reshape(1, 16)}
                camera.metadata = (camera.metadata or {}) | known
                self._cameras.append(camera)
        camera = copy(self._cameras[index])
        camera.metadata = dict(camera.metadata)
        return camera

    def _loads_masks(self, step: int, index: int) -> bool:
        masks = self.view_masks()
        return masks is not None and (self.wants_masks(step) or not masks.checked(self.view_name("train", index)))

    def next_train(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """The next training camera and its batch."""
        index = self.train_unseen_cameras.pop(0)
        if not self.train_unseen_cameras:
            self.train_unseen_cameras = self.sample_train_cameras()
        batch = dict(self.cached_train[index])
        batch["image"] = batch["image"].to(self.device)
        camera = self._train_camera(index)
        if self.view_masks() is not None and self.wants_masks(step):
            batch = self._with_masks(batch, "train", index)
        elif self._view_masks is not None:
            self._view_masks.settle()
        coming = self.train_unseen_cameras[0]
        if self._loads_masks(step + 1, coming):
            self._view_masks.prefetch(self.view_name("train", coming), lambda: self._served("train", coming))
        return camera, batch

    def next_eval_image(self, step: int) -> tuple[Cameras, dict[str, Any]]:
        """A random evaluation camera and its batch."""
        camera, batch = super().next_eval_image(step)
        return camera, self._with_masks(batch, "eval", int(batch["image_idx"]))


def first_bad_image(outputs: DataparserOutputs) -> UserError | None:
    """What is wrong with the first image of a split that cannot be served, or None.

    Args:
        outputs: file names and cameras, as the dataparser gave them.

    Raises:
        UnsupportedLens: a lens that cannot be undone.
    """
    found = undistortions(outputs)
    sizes = [(each.distorted.width, each.distorted.height) for each in found]
    masks = outputs.metadata.get(MASKS) or outputs.mask_filenames or [None] * len(sizes)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for bad in pool.map(_bad_image, map(Path, outputs.image_filenames), sizes, masks):
            if bad is not None:
                pool.shutdown(cancel_futures=True)
                return bad
    return None


def _bad_image(path: Path, expected: tuple[int, int], mask: Path | None) -> UserError | None:
    """What is wrong with an image that should have `expected` pixels (width, height), or with its mask, or None."""
    try:
        size = picture_size(path, expected)
        if size != expected:
            return wrong_size(path, size, expected)
        if mask is not None:
            read_mask(Path(mask), 1.0, expected)
    except UserError as error:
        return error
    return None


def check_scene(config: AG2DataManagerConfig) -> None:
    """Look at all that training would read (96 images of 512 x 512 take 0.1 s).

    Raises:
        UserError: the scene cannot be read, an image or a mask is missing, damaged, no image, or of another size than
            its camera, or a lens cannot be undone.
    """
    if not isinstance(config.dataparser, AG2DataParserConfig):
        return
    data = Path(config.data or config.dataparser.data)
    parser = replace(config.dataparser, data=data, load_points=False, undoes_lenses=True).setup()
    for split in ("train", "val"):
        bad = first_bad_image(parser.get_dataparser_outputs(split=split))
        if bad is not None:
            raise bad
