"""Serves whole frames of surround cameras to nerfstudio: features and depth of all views, and what rays say."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datamanagers.base_datamanager import DataManager, DataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor
from torch.nn import Parameter

from ag2_ns.core.errors import UserError
from ag2_ns.feedforward.config import LossConfig
from ag2_ns.feedforward.losses import principal_axes
from ag2_ns.feedforward.model import Batch, mirrored
from ag2_ns.feedforward.rays import RayTargets, ray_targets, rays_of
from ag2_ns.io import occ3d, surround
from ag2_ns.io.surround import Drive, Frame, Record
from ag2_ns.io.text_table import PROMPTS, read_text_table
from ag2_ns.ops.voxels import VoxelGrid

TABLES = ("text_features.json", "text_features.npy", "text_features.pt")
BASIS_FRAMES = 64
"""Frames of which the fixed principal axes are taken."""


@dataclass
class SurroundDataManagerConfig(DataManagerConfig):
    """Frames of surround cameras."""

    _target: type = field(default_factory=lambda: SurroundDataManager)
    data: Path | None = None
    """Folder of drives: see ag2 example --scene street, or a nuScenes root."""
    batch: int = 1
    """Frames per step and device."""
    eval_share: float = 0.125
    """Share of the drives kept for evaluation where there is no split.json."""
    features: str = "features"
    """Name of the folders that hold the patch features."""
    texts: Path | None = None
    """Table of text features; by default text_features.json, .npy or .pt in the folder of drives."""
    prompts: tuple[str, ...] = ()
    """Prompts to tell voxels by; by default all of the table that have an occupancy class."""
    width: int = 0
    """Pixels across at which views are rendered; 0: as the pictures."""
    height: int = 0
    """Pixels down."""
    ego_motion: bool = True
    """Account for the car's motion between the pictures' times and the frame's."""
    mirror: bool = False
    """Train on every other frame as a mirror shows it: left and right change places."""
    cache_gb: float = 4.0
    """Memory for frames already read."""


@dataclass(frozen=True)
class Texts:
    """Prompts, their features and their classes."""

    names: tuple[str, ...]
    features: Float[Tensor, "P C"]
    classes: Tensor


class SurroundDataManager(DataManager):
    """A frame at a time, read in the background, kept while there is memory for it."""

    config: SurroundDataManagerConfig

    def __init__(
        self,
        config: SurroundDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        self.config, self.device, self.test_mode = config, device, test_mode
        self.world_size, self.local_rank = world_size, local_rank
        if config.data is None:
            raise UserError(
                "no data: give --data FOLDER, a folder of drives (ag2 example FOLDER --scene street makes one)"
            )
        if config.batch < 1:
            raise UserError(f"--pipeline.datamanager.batch {config.batch}: give at least 1 frame")
        drives = surround.read_drives(config.data)
        train, val = surround.split_drives(config.data, drives, config.eval_share)
        self.drives: list[Drive] = drives
        self.train_frames = [f for d in train for f in d.frames]
        self.eval_frames = [f for d in val for f in d.frames]
        self._check_cameras()
        self._neighbours = {f.name: (d.frames, k) for d in drives for k, f in enumerate(d.frames)}
        self._cache: OrderedDict[str, tuple[Frame, RayTargets | None]] = OrderedDict()
        self._bytes = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ag2-frames")
        self._coming: dict[str, Future] = {}
        self.rays: LossConfig | None = None
        """Set by the pipeline where rays are taught from."""
        self.train_dataset = _dataset(self.train_frames[0], self._metadata)
        self.eval_dataset = _dataset(self.eval_frames[0], self._metadata)
        super().__init__()

    def _check_cameras(self) -> None:
        first = self.train_frames[0]
        for frame in (*self.train_frames, *self.eval_frames):
            if len(frame.cameras) != len(first.cameras):
                raise UserError(
                    f"frame {frame.name} has {len(frame.cameras)} cameras, {first.name} {len(first.cameras)}; "
                    "take drives with the same cameras"
                )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at which views are rendered."""
        camera = self.train_frames[0].cameras[0]
        return self.config.width or camera.width, self.config.height or camera.height

    # What the model learns at construction.

    @cached_property
    def texts(self) -> Texts:
        """The prompts.

        Raises:
            UserError: no table, one of another width than the features, or words that mean no class.
        """
        root, path = Path(self.config.data), self.config.texts
        if path is None:
            path = next((root / name for name in TABLES if (root / name).is_file()), None)
        if path is None:
            raise UserError(
                f"{root}: no table of text features ({', '.join(TABLES)}); write one, or name it with "
                "--pipeline.datamanager.texts FILE"
            )
        names, table = read_text_table(path)
        wanted = self.config.prompts or tuple(n for n in names if n in PROMPTS)
        for name in wanted:
            if name not in names or name not in PROMPTS:
                raise UserError(f"'{name}' is no prompt of {path} with a class; choose among {', '.join(PROMPTS)}")
        channels = self.channels
        if table.shape[1] != channels:
            raise UserError(
                f"{path}: texts have {table.shape[1]} numbers, the features of the pictures {channels}; take texts and "
                "features of one encoder"
            )
        rows = [names.index(n) for n in wanted]
        return Texts(tuple(wanted), table[rows], torch.tensor([PROMPTS[n] for n in wanted]))

    @cached_property
    def channels(self) -> int:
        """Numbers of a patch's feature."""
        return self.frame(self.train_frames[0])[0].features.shape[1]

    @cached_property
    def grid(self) -> VoxelGrid:
        """The grid of the labels, Occ3D's where there are none."""
        for frame in (*self.eval_frames, *self.train_frames):
            if frame.label() is not None:
                return frame.labels().grid
        return occ3d.GRID

    def axes(self, channels: int, centred: bool) -> Float[Tensor, "C K"]:
        """Principal axes of the training features, spread over the frames; the same in every process."""
        return principal_axes(self.patches(), channels, centred)

    def patches(self) -> Float[Tensor, "N C"]:
        """Features of the training patches, of frames spread over the drives."""
        step = max(1, len(self.train_frames) // BASIS_FRAMES)
        rows = [self.frame(f)[0].features.movedim(1, -1).flatten(0, 2) for f in self.train_frames[::step]]
        return torch.cat(rows)

    def _metadata(self) -> dict[str, Any]:
        about = {"channels": self.channels, "texts": self.texts, "grid": self.grid}
        return about | {"axes": self.axes, "patches": self.patches}

    # Frames.

    def frame(self, record: Record) -> tuple[Frame, RayTargets | None]:
        """A frame, and what its rays say where that is wanted."""
        found = self._cache.get(record.name)
        if found is None or (self.rays is not None and found[1] is None):
            frame = found[0] if found else self._read(record)
            found = (frame, None if self.rays is None else self._targets(frame, self.rays))
            self._keep(record.name, found)
        return found

    def _read(self, record: Record) -> Frame:
        return surround.load_frame(record, *self.size, ego_motion=self.config.ego_motion, features=self.config.features)

    def _targets(self, frame: Frame, config: LossConfig) -> RayTargets:
        own = rays_of(frame.views, frame.depth, frame.features, config.max_ray_pixels)
        frames, k = self._neighbours[frame.record.name]
        others = []
        for record in frames[max(0, k - config.frames) : k + config.frames + 1]:
            if record is not frame.record:
                there = self._cache[record.name][0] if record.name in self._cache else self._read(record)
                pose = torch.linalg.inv(frame.record.ego2global) @ record.ego2global
                others.append(rays_of(there.views, there.depth, None, config.max_ray_pixels).moved(pose.numpy()))
        return ray_targets(own, others, self.grid)

    def _keep(self, name: str, found: tuple[Frame, RayTargets | None]) -> None:
        self._cache[name] = found
        while len(self._cache) > 1 and sum(map(_bytes, self._cache.values())) > self.config.cache_gb * 2**30:
            self._cache.popitem(last=False)

    def _order(self, round_: int) -> list[Record]:
        """This process's frames of one round through the training set; the processes share them out."""
        order = torch.randperm(len(self.train_frames), generator=torch.Generator().manual_seed(round_)).tolist()
        return [self.train_frames[k] for k in order[self.local_rank :: self.world_size] or order]

    def _chosen(self, step: int) -> list[Record]:
        out = []
        for k in range(step * self.config.batch, (step + 1) * self.config.batch):
            each = max(1, -(-(len(self.train_frames) - self.local_rank) // self.world_size))
            order = self._order(k // each)
            out.append(order[k % each % len(order)])
        return out

    def batch(self, records: list[Record]) -> tuple[Batch, dict[str, Any]]:
        """Frames as the network takes them, on the device, and what belongs to them."""
        found = [self.frame(r) for r in records]
        frames = [f for f, _ in found]
        batch = Batch(
            _stack([f.features for f in frames], records, "features"),
            _stack([f.depth for f in frames], records, "depth"),
            torch.stack([torch.stack([v.K for v in f.views]) for f in frames]),
            torch.stack([torch.stack([torch.linalg.inv(v.viewmat.double()).float() for v in f.views]) for f in frames]),
        ).to(self.device)
        rays = [r.to(self.device) for _, r in found] if self.rays is not None else None
        return batch, {"records": records, "rays": rays}

    def segments(self, records: list[Record]) -> Tensor:
        """Classes of pixels, B x V x H x W, from segments/CAMERA/STEM.npy."""
        width, height = self.size
        rows = []
        for record in records:
            maps = [surround.read_array(record, "segments", c)[None, None] for c in record.cameras]
            rows.append(torch.cat([torch.nn.functional.interpolate(m, (height, width))[0] for m in maps]))
        return torch.stack(rows).long().to(self.device)

    def next_train(self, step: int) -> tuple[Batch, dict[str, Any]]:
        """The frames of a step; those of the next are read meanwhile."""
        self.train_count += 1
        chosen = self._chosen(step)
        for waiting in self._coming.values():
            waiting.result()
        out = self.batch(chosen)
        if self.config.mirror and abs(2 * self.grid.low[1] + self.grid.voxel * self.grid.shape[1]) > 1e-3:
            raise UserError("--pipeline.datamanager.mirror: the grid must reach as far to the left as to the right")
        if self.config.mirror and step % 2:
            out = mirrored(out[0]), out[1] | {"rays": out[1]["rays"] and [r.mirrored() for r in out[1]["rays"]]}
        self._coming = {r.name: self._pool.submit(self.frame, r) for r in self._chosen(step + 1)}
        return out

    def next_eval(self, step: int) -> tuple[Batch, dict[str, Any]]:
        """One frame to evaluate."""
        self.eval_count += 1
        return self.batch([self.eval_frames[self.eval_count % len(self.eval_frames)]])

    def next_eval_image(self, step: int) -> tuple[Batch, dict[str, Any]]:
        """The same."""
        return self.next_eval(step)

    def setup_train(self) -> None:
        """Nothing is read before it is needed."""

    def setup_eval(self) -> None:
        """Nothing is read before it is needed."""

    def get_train_rays_per_batch(self) -> int:
        """Pixels of a step."""
        return self.config.batch * len(self.train_frames[0].cameras) * self.size[0] * self.size[1]

    def get_eval_rays_per_batch(self) -> int:
        """Pixels of a frame."""
        return len(self.train_frames[0].cameras) * self.size[0] * self.size[1]

    def get_datapath(self) -> Path:
        """The folder of drives."""
        return Path(self.config.data)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """None."""
        return {}


def _bytes(found: tuple[Frame, RayTargets | None]) -> int:
    frame, rays = found
    tensors = [frame.depth, frame.features] + ([rays.seen, rays.index, rays.features] if rays is not None else [])
    return sum(t.numel() * t.element_size() for t in tensors)


def _stack(tensors: list[Tensor], records: list[Record], what: str) -> Tensor:
    for tensor, record in zip(tensors, records):
        if tensor.shape != tensors[0].shape:
            raise UserError(
                f"frame {record.name}: {what} of {'x'.join(map(str, tensor.shape))}, those of {records[0].name} "
                f"{'x'.join(map(str, tensors[0].shape))}; make all with one encoder"
            )
    return torch.stack(tensors)


def _dataset(record: Record, about: Callable[[], dict[str, Any]]) -> InputDataset:
    """The cameras of one frame, for nerfstudio's viewer; `about` says what the model is to know."""
    poses = torch.stack([c.cam2ego for c in record.cameras])[:, :3].float()
    poses[:, :, 1:3] *= -1  # nerfstudio's cameras look along -z
    K = torch.stack([c.cam2img for c in record.cameras]).float()
    cameras = Cameras(
        camera_to_worlds=poses,
        fx=K[:, 0, 0], fy=K[:, 1, 1], cx=K[:, 0, 2], cy=K[:, 1, 2],
        width=torch.tensor([c.width for c in record.cameras]),
        height=torch.tensor([c.height for c in record.cameras]),
        camera_type=CameraType.PERSPECTIVE,
    )  # fmt: skip
    box = SceneBox(torch.tensor([[-40.0, -40.0, -1.0], [40.0, 40.0, 5.4]]))
    dataset = InputDataset(DataparserOutputs([c.image for c in record.cameras], cameras, scene_box=box))
    dataset.metadata["about"] = about  # set here: nerfstudio copies what it is given
    return dataset
