"""A large point cloud made a scene: python examples/benchmarks/points.py [--points 1000000] [--views 6] [--seed 200]

A scan of a table-top, each of its points many times within its voxel, and six cameras of 640x480 around it with
simulated masks. Printed: seconds from the points to instances (sizes, anchors, lifting, tree), and how well each
object's best instance covers its points. --profile says where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ag2_ns.io.calibration import read_rig
from ag2_ns.io.points import PointCloud
from ag2_ns.io.published_files import read_clip_features, read_masks_sparse
from ag2_ns.ops.device import choose_device
from ag2_ns.rendering.choose import choose_rasterizer
from ag2_ns.scene.points import scene_of_points
from ag2_ns.synthetic.tabletop.generate import generate
from ag2_ns.synthetic.tabletop.scan import scan

VOXEL = 0.012
"""Edge of the cubes of which the scan keeps one point each, scene units."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--seed", type=int, default=200)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    device = choose_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scene"
        generate(out, seed=options.seed, noise=1, views=options.views, progress=False)
        rig = read_rig(out)
        surface = scan(out, voxel=VOXEL)
        stems = [Path(name).stem for name in rig.names]
        masks = [read_masks_sparse(out / "masks_sparse" / f"{s}.pt") for s in stems]
        features = [read_clip_features(out / "clip_features" / f"{s}.pt").float() for s in stems]
    rng = np.random.default_rng(0)
    keep = np.arange(options.points) % len(surface.xyz)
    within = rng.uniform(-VOXEL / 4, VOXEL / 4, (options.points, 3)).astype(np.float32)
    cloud = PointCloud(surface.xyz[keep] + within, surface.rgb[keep])
    rasterizer = choose_rasterizer("auto", device)
    run = lambda c: scene_of_points(c, rig, None, None, rasterizer, device=device, prepared=list(zip(masks, features)))  # noqa: E731
    run(PointCloud(cloud.xyz[::50].copy(), cloud.rgb[::50].copy()))  # compiles what is compiled on first use
    profile = cProfile.Profile()
    start, cpu = time.perf_counter(), time.process_time()
    if options.profile:
        profile.enable()
    lifted = run(cloud)
    if device == "cuda":
        torch.cuda.synchronize()
    profile.disable()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    index = lifted.index
    node = index.gaussian_node(0.5).cpu()
    label = torch.from_numpy(surface.label[keep])
    shares = []
    for thing in label.unique().tolist():
        own = label == thing
        count = torch.bincount(node[own & (node >= 0)], minlength=index.tree.num_nodes)
        every = torch.bincount(node[node >= 0], minlength=index.tree.num_nodes)
        shares.append(float((count / (every + own.sum() - count).clamp_min(1)).max()))
    print(
        f"{len(cloud):,} points, {len(rig)} views, {device}: {seconds:.1f} s ({cpu:.1f} s of processors), "
        f"{index.num_anchors:,} anchors, {len(index.tree.instances(0.5))} objects, mean IoU {np.mean(shares):.3f}"
    )
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
