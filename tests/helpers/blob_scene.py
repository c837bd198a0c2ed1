"""The balls of `blob_run` as a scene file, without nerfstudio."""

from __future__ import annotations

from pathlib import Path

import blob_run
import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import NamedView, View
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.ops.sh import rgb_to_sh
from ag2_ns.scene.scene import Scene, Source, WorldFrame
from ag2_ns.scene.scene_file import FILE_NAME, save_scene
from ag2_ns.splat.anchors import Anchors


def make(folder: Path) -> Scene:
    """Write the capture and the scene; returns the scene with its path."""
    data = folder / "data"
    blob_run.write_scene(data)
    xyz, leaf, rgb = blob_run.ball_anchors(torch.Generator().manual_seed(1))
    count = len(xyz)
    scale = torch.where((leaf == blob_run.PLATE)[:, None], torch.tensor([0.055, 0.055, 0.01]), torch.tensor(0.028))
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(count, 1)
    gaussians = Gaussians(xyz, quats, scale, torch.full((count,), 0.98), rgb_to_sh(rgb)[:, None])
    w, h, f = blob_run.WIDTH, blob_run.HEIGHT, blob_run.FOCAL
    K = torch.tensor([[f, 0, w / 2], [0, f, h / 2], [0, 0, 1.0]])
    views = []
    for k in range(blob_run.VIEWS):
        pose = torch.tensor(blob_run.ring_pose(k)).float() * torch.tensor([1.0, -1, -1, 1])
        views.append(NamedView(f"view_{k:02d}.png", f"view_{k:02d}", "train", View(torch.linalg.inv(pose), K, w, h)))
    manifest = FeatureStore.open(data, 1).manifest
    index = blob_run.blob_index(xyz, leaf)
    made_by = manifest.to_bytes()
    index = type(index)(index.gaussian_anchor, index.anchor_xyz, index.edges, index.tree, index.language, made_by)
    path = folder / "run" / FILE_NAME
    scene = Scene(
        gaussians,
        Anchors(xyz, torch.full((count, 1), 0.05), torch.ones(count, 3)),
        torch.arange(count),
        1.3,
        index,
        tuple(views),
        None,
        0,
        Source(data),
        WorldFrame(),
        path=path,
        texts=TextEncoder(data, 1, "cpu", lambda: made_by),
    )
    save_scene(path, scene)
    return scene
