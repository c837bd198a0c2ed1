"""nuScenes as drives: its own tables, through nuscenes-devkit where that is installed, or read as plain JSON.

Only key frames are taken (2 Hz). Layout: https://www.nuscenes.org/nuscenes, section "data format": tables of records
that point to each other by tokens; rotations are quaternions w, x, y, z.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.io.surround import Camera, Drive, Record
from ag2_ns.ops.rotations import rotation_matrices

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
LIDAR = "LIDAR_TOP"
TABLES = ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor")


class Tables(Protocol):
    """What nuscenes-devkit's `NuScenes` offers, as far as it is used here."""

    scene: list[dict[str, Any]]

    def get(self, table: str, token: str) -> dict[str, Any]:
        """The record of a table with this token."""
        ...


class PlainTables:
    """nuScenes' tables read as plain JSON; samples know their key frames' data by channel, as in the devkit."""

    def __init__(self, folder: Path) -> None:
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}
        for name in TABLES:
            path = folder / f"{name}.json"
            try:
                rows = json.loads(path.read_text(encoding="utf-8"))
                self._rows[name] = {row["token"]: row for row in rows}
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}: not a table of nuScenes ({first_line(error)}); unpack its metadata"
                ) from error
        self.scene = list(self._rows["scene"].values())
        for sample in self._rows["sample"].values():
            sample.setdefault("data", {})
        for row in self._rows["sample_data"].values():
            if row["is_key_frame"]:
                sensor = self.get("calibrated_sensor", row["calibrated_sensor_token"])["sensor_token"]
                channel = self.get("sensor", sensor)["channel"]
                self.get("sample", row["sample_token"])["data"][channel] = row["token"]

    def get(self, table: str, token: str) -> dict[str, Any]:
        """The record of a table with this token."""
        return self._rows[table][token]


def open_tables(root: Path, version: str | None = None) -> Tables:
    """The tables of one version below `root`, through nuscenes-devkit if it is there.

    Raises:
        UserError: no version, or several and none named.
    """
    found = sorted(p.parent.name for p in Path(root).glob("v1.0-*/scene.json"))
    if version is None and len(found) > 1:
        preferred = [v for v in ("v1.0-trainval", "v1.0-mini") if v in found]
        version = preferred[0] if preferred else found[0]
    version = version or (found[0] if found else None)
    if version is None or version not in found:
        raise UserError(f"{root}: no tables of nuScenes ({version or 'v1.0-*'}/scene.json); unpack its metadata there")
    try:
        from nuscenes import NuScenes
    except ImportError:
        return PlainTables(Path(root) / version)
    return NuScenes(version=version, dataroot=str(root), verbose=False)


def read_nuscenes(root: Path, tables: Tables | None = None, scenes: Iterable[str] | None = None) -> list[Drive]:
    """The scenes of nuScenes as drives; those without pictures on the disk are left out.

    Args:
        root: its folder, with samples/ and v1.0-*/.
        tables: opened already, such as a devkit's `NuScenes`.
        scenes: names of those wanted; all by default.

    Raises:
        UserError: tables cannot be read, a key frame lacks a camera, or there are no pictures at all.
    """
    root = Path(root)
    tables = open_tables(root) if tables is None else tables
    wanted = None if scenes is None else set(scenes)
    drives = []
    for scene in tables.scene:
        if wanted is not None and scene["name"] not in wanted:
            continue
        records, token = [], scene["first_sample_token"]
        while token:
            sample = tables.get("sample", token)
            record = _record(root, tables, scene["name"], sample)
            if all(c.image.is_file() for c in record.cameras):
                records.append(record)
            token = sample["next"]
        if records:
            drives.append(Drive(scene["name"], root, tuple(records)))
    if not drives:
        raise UserError(f"{root}: the tables are there, the pictures (samples/CAM_*) are not; unpack them beside")
    return sorted(drives, key=lambda d: d.name)


def _record(root: Path, tables: Tables, scene: str, sample: dict[str, Any]) -> Record:
    lost = [c for c in (*CAMERAS, LIDAR) if c not in sample["data"]]
    if lost:
        raise UserError(f"{root}: sample {sample['token']} of {scene} lacks {lost[0]}; unpack the tables anew")
    lidar = tables.get("sample_data", sample["data"][LIDAR])
    ego = _pose(tables.get("ego_pose", lidar["ego_pose_token"]))
    lidar2ego = _pose(tables.get("calibrated_sensor", lidar["calibrated_sensor_token"]))
    cameras = []
    for name in CAMERAS:
        data = tables.get("sample_data", sample["data"][name])
        sensor = tables.get("calibrated_sensor", data["calibrated_sensor_token"])
        mount = _pose(sensor)
        moved = torch.linalg.inv(ego) @ _pose(tables.get("ego_pose", data["ego_pose_token"])) @ mount
        K = torch.tensor(np.asarray(sensor["camera_intrinsic"], float))
        cameras.append(Camera(name, root / data["filename"], data["width"], data["height"], K, moved, mount))
    return Record(
        scene, sample["token"], sample["timestamp"] * 1e-6, root, (root,), ego, tuple(cameras),
        root / lidar["filename"], lidar2ego, {},
    )  # fmt: skip


def _pose(row: dict[str, Any]) -> Tensor:
    out = torch.eye(4, dtype=torch.double)
    out[:3, :3] = rotation_matrices(torch.tensor([row["rotation"]], dtype=torch.double))[0]
    out[:3, 3] = torch.tensor(row["translation"], dtype=torch.double)
    return out
