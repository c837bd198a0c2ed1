"""A run without training: coloured balls on a plate, with instances and language that are known exactly.

Objects are red (two halves as parts), green, blue and the plate; red and green are a group. Positions are in the run's
frame, z up.
"""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.view_store import Manifest
from ag2_ns.language.node_language import NodeLanguage
from ag2_ns.scene.scene_index import SceneIndex

GROUP, RED, TOP, BOTTOM, GREEN, BLUE, PLATE = range(7)
CENTRES = {"red": (0.35, 0.0, 0.12), "green": (-0.18, 0.3, 0.12), "blue": (-0.18, -0.3, 0.12)}
COLORS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.1), "blue": (0.1, 0.2, 0.9), "plate": (0.6, 0.55, 0.5)}
WIDTH, HEIGHT, FOCAL, VIEWS, RING, HIGH = 64, 48, 60.0, 9, 1.2, 0.7
TEXTS = ["red ball", "green ball", "blue ball", "plate", "top of the red ball", "bottom of the red ball"]


def ball_anchors(generator: torch.Generator):
    """Anchor positions, the tree's leaf and the colour of each."""
    xyz, node, rgb = [], [], []
    for name, leaf in (("red", None), ("green", GREEN), ("blue", BLUE)):
        p = torch.nn.functional.normalize(torch.randn(90, 3, generator=generator), dim=1) * 0.1
        xyz.append(p + torch.tensor(CENTRES[name]))
        node.append(torch.where(p[:, 2] > 0, TOP, BOTTOM) if leaf is None else torch.full((90,), leaf))
        rgb.append(torch.tensor(COLORS[name]).expand(90, 3))
    grid = torch.cartesian_prod(*[torch.linspace(-0.6, 0.6, 13)] * 2)
    xyz.append(torch.cat([grid, torch.zeros(len(grid), 1)], 1))
    node.append(torch.full((len(grid),), PLATE))
    rgb.append(torch.tensor(COLORS["plate"]).expand(len(grid), 3))
    return torch.cat(xyz), torch.cat(node), torch.cat(rgb)


def blob_index(xyz, leaf) -> SceneIndex:
    parent = torch.tensor([-1, GROUP, RED, RED, GROUP, -1, -1])
    last = torch.tensor([GREEN, BOTTOM, TOP, BOTTOM, GREEN, BLUE, PLATE])
    level = torch.tensor([0.75, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0])
    size = torch.bincount(leaf, minlength=7)
    size[RED] = size[TOP] + size[BOTTOM]
    size[GROUP] = size[RED] + size[GREEN]
    tree = InstanceTree(parent, last, level, size, size.float() * 10, leaf, torch.ones(len(leaf), dtype=torch.bool))
    rows = torch.zeros(7, 8)
    for node, axes in (
        (GROUP, (0, 1)),
        (RED, (0,)),
        (TOP, (4,)),
        (BOTTOM, (5,)),
        (GREEN, (1,)),
        (BLUE, (2,)),
        (PLATE, (3,)),
    ):
        rows[node, list(axes)] = 1.0
    rows = torch.nn.functional.normalize(rows, dim=1)
    language = NodeLanguage(
        rows.half(), torch.full((7,), 5.0), torch.full((7,), 0.9), torch.tensor([0.3, 0.8, 0.6, 0.6, 0.8, 0.8, 0.8])
    )
    d = torch.cdist(xyz, xyz)
    edges = (d < 0.11).nonzero().T
    return SceneIndex(torch.arange(len(xyz)), xyz, edges[:, edges[0] != edges[1]], tree, language)


def ring_pose(k: int, count: int = VIEWS) -> np.ndarray:
    """Camera to world (OpenGL) of a camera that looks at the plate's middle."""
    a = 2 * math.pi * k / count
    eye = np.array([RING * math.cos(a), RING * math.sin(a), HIGH])
    z = eye / np.linalg.norm(eye)
    x = np.cross([0, 0, 1], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = x, np.cross(z, x), z, eye
    return pose


def write_scene(data: Path) -> None:
    """transforms.json, images and a text table."""
    (data / "images").mkdir(parents=True)
    frames = []
    for k in range(VIEWS):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(data / "images" / f"view_{k:02d}.png")
        frames.append({"file_path": f"images/view_{k:02d}.png", "transform_matrix": ring_pose(k).tolist()})
    camera = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    (data / "transforms.json").write_text(json.dumps({**camera, "camera_model": "OPENCV", "frames": frames}))
    axes = dict(zip(TEXTS, (0, 1, 2, 3, 4, 5)))
    table = {text: np.eye(8)[axis].tolist() for text, axis in axes.items()}
    (data / "text_features.json").write_text(json.dumps(table))
    options = {"features": None, "texts": str((data / "text_features.json").resolve())}
    FeatureStore.create(data, Manifest("table", {"dim": 8}, options))


def run_config(data: Path, output_dir: Path):
    """The configuration of a run on `write_scene`'s data, in its own frame."""
    from ag2_ns.plugin.methods import ag2aussian_small

    config = deepcopy(ag2aussian_small.config)
    config.data = config.pipeline.datamanager.data = data
    parser = config.pipeline.datamanager.dataparser
    parser.orientation_method, parser.center_method, parser.auto_scale_poses = "none", "none", False
    parser.eval_interval = 3
    config.output_dir, config.experiment_name, config.timestamp = output_dir, "blobs", "run"
    config.machine.device_type = "cpu"
    config.pipeline.model.sh_degree = 1
    config.pipeline.model.background_color = "black"
    return config


def fill(model) -> None:
    """Give a freshly built model the balls."""
    xyz, leaf, rgb = ball_anchors(torch.Generator().manual_seed(1))
    count = len(xyz)
    state = dict(model.state_dict())
    flat = torch.tensor([0.055, 0.055, 0.01])
    log_scale = torch.where((leaf == PLATE)[:, None], flat, torch.full((3,), 0.028)).log()
    state |= {
        "anchor_xyz": xyz,
        "anchor_radius": torch.full((count, 1), 0.05),
        "child_anchor": torch.arange(count),
        "anchor_params.feature": torch.eye(7)[leaf] @ torch.randn(7, 3, generator=torch.Generator().manual_seed(2)),
        "child_params.offset": torch.zeros(count, 3),
        "child_params.sh_dc": (rgb - 0.5) / 0.28209479177387814,
        "child_params.sh_rest": torch.zeros(count, 3, 3),
        "child_params.log_scale": log_scale,
        "child_params.quat": torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(),
        "child_params.opacity_logit": torch.full((count, 1), 4.0),
    }
    model.load_state_dict(state)
    model.set_scene_index(blob_index(xyz, leaf))


def build(folder: Path, with_index: bool = True) -> Path:
    """Write scene and run; returns config.yml."""
    from ag2_ns.plugin.lifting import write_run

    data = folder / "scene"
    write_scene(data)
    config = run_config(data, folder / "out")
    config.get_checkpoint_dir()
    pipeline = config.pipeline.setup(device="cpu", test_mode="test")
    pipeline.eval()
    fill(pipeline.model)
    if not with_index:
        pipeline.model.set_scene_index(None)
    return write_run(config, pipeline)


def build_palette(folder: Path) -> Path:
    """The balls described by their colours, so that any picture and colour word can be asked; returns config.yml."""
    from ag2_ns.perception.palette import PaletteEncoder
    from ag2_ns.plugin.lifting import write_run

    encoder = PaletteEncoder()
    write_scene(folder / "scene")
    manifest = Manifest("palette", encoder.settings, encoder.options)
    FeatureStore.create(folder / "scene", manifest)  # the other one holds no views
    config = run_config(folder / "scene", folder / "out")
    pipeline = config.pipeline.setup(device="cpu", test_mode="test")
    fill(pipeline.model)
    index = pipeline.model.scene_index()
    rows = encoder.encode_text(["red and green", "red", "red", "red", "green", "blue", "grey"]).half()
    pipeline.model.set_scene_index(replace(index, language=replace(index.language, feature=rows)))
    return write_run(config, pipeline)
