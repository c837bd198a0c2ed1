"""Occupancy from surround cameras: the voxeliser's speed, and what training on streets gives (ns-train, ns-eval).

    python examples/benchmarks/occupancy.py                       # CPU: 96 x 56 pixels, +-20 m, three seeds
    python examples/benchmarks/occupancy.py --device cuda         # 192 x 112 pixels, 256 frames
    python examples/benchmarks/occupancy.py --device cuda --published --skip-training
    python examples/benchmarks/occupancy.py --seeds 1 --minutes 5 --variants faithful rays carry frames cross

Streets of seeds below 100 are for choosing constants, those from 200 on for reporting. Every row is `ns-train`, then
`ns-eval` on drives of their own; training steps are chosen so that they take the minutes asked for on this machine.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.eval.occupancy import OccupancyScore, score, total
from ag2_ns.feedforward.config import OccupancyConfig
from ag2_ns.feedforward.occupancy import occupancy
from ag2_ns.feedforward.patches import lifted_patches
from ag2_ns.io.occ3d import GRID
from ag2_ns.io.surround import load_frame, read_drives, split_drives
from ag2_ns.io.text_table import PROMPTS, read_text_table
from ag2_ns.ops.processes import num_cores
from ag2_ns.ops.voxels import voxelise

BIN = Path(sys.executable).parent
CALIBRATION = 40
"""Steps of the run that tells how long a step takes."""

SIZES = {
    "cpu": {"frames": 64, "eval": 8, "width": 96, "height": 56, "reach": 20.0, "patch": 8},
    "cuda": {"frames": 256, "eval": 16, "width": 192, "height": 112, "reach": 20.0, "patch": 4},
}
METHOD = {
    "cpu": ["gausstr-small"],
    "cuda": [
        "gausstr-small", "--pipeline.model.network.width", "128", "--pipeline.model.network.queries", "600",
        "--pipeline.model.network.ffn", "512", "--pipeline.model.network.head-width", "256",
        "--optimizers.network.optimizer.lr", "4e-4", "--optimizers.network.optimizer.max-norm", "10",
    ],
}  # fmt: skip
LOSS, NET = "--pipeline.model.loss", "--pipeline.model.network"
RENDERED = (f"{LOSS}.feature", "5", f"{LOSS}.depth", "1")
VARIANTS = {
    "faithful": [
        *RENDERED,
        f"{LOSS}.rays",
        "0",
        f"{LOSS}.balance",
        "0",
        "--pipeline.datamanager.mirror",
        "False",
        f"{NET}.carry",
        "False",
    ],
    "both": [*RENDERED, f"{LOSS}.rays", "1", f"{NET}.carry", "False"],
    "rays": [f"{NET}.carry", "False"],
    "carry": [],
    "frames": [f"{LOSS}.frames", "1"],
    "cross": [f"{NET}.cross-view", "True"],
}
"""faithful: rendered features and depth alone, as published, with the mended rules. rays: only what the rays end in and
pass through, rare things more, frames mirrored. both: and the rendered ones. carry: as rays, and features that begin
with those of the patch below, which is what gausstr-small does. frames: as carry, and the rays of a frame before and
after. cross: as carry, and queries that see the other views."""


def time_voxeliser(device: str) -> None:
    """Milliseconds to fill the Occ3D grid with 17 classes, forwards, and forwards and backwards."""
    print(f"\nvoxeliser, 200 x 200 x 16 voxels x 17 values, {device}")
    low, high = torch.tensor(GRID.low), torch.tensor(GRID.high)
    for count, large in ((12_000, 0.95), (1_000_000, 0.2 if device == "cpu" else 0.3)):
        g = torch.Generator().manual_seed(0)
        scales = torch.exp(torch.rand(count, 3, generator=g) * torch.tensor(large / 0.06).log()) * 0.06
        made = Gaussians(
            low + torch.rand(count, 3, generator=g) * (high - low), torch.rand(count, 4, generator=g) - 0.5, scales,
            torch.rand(count, generator=g), torch.zeros(count, 1, 3),
        ).to(device)  # fmt: skip
        values = torch.rand(count, 17, generator=g).to(device).requires_grad_()
        made.means.requires_grad_()
        times = {"forwards": [], "and backwards": []}
        for _ in range(4):
            for name, backwards in (("forwards", False), ("and backwards", True)):
                _wait(device)
                start = time.perf_counter()
                with torch.set_grad_enabled(backwards):
                    out = voxelise(made, values, GRID)
                    if backwards:
                        (out.density.sum() + out.values.sum()).backward()
                _wait(device)
                times[name].append(1e3 * (time.perf_counter() - start))
        print(
            f"  {count:>9,} Gaussians of 0.06 to {large} m: "
            + ", ".join(f"{k} {min(v):.1f} ms" for k, v in times.items())
        )


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def run(*command: object) -> None:
    """Run one of the installed commands; what it prints shows only if it fails."""
    done = subprocess.run([str(BIN / str(command[0])), *map(str, command[1:])], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def make_street(folder: Path, seed: int, size: dict) -> Path:
    """A street, made unless it is there."""
    out = folder / f"street-{size['width']}-{size['patch']}-{size['frames']}-{size['reach']:g}-{seed}"
    if not out.exists():
        start = time.perf_counter()
        run("ag2", "example", out, "--scene", "street", "--seed", seed, "--frames", size["frames"], "--eval-frames",
            size["eval"], "--width", size["width"], "--height", size["height"], "--reach", size["reach"],
            "--patch", size["patch"], "--workers", max(1, min(12, num_cores() // 2)))  # fmt: skip
        print(f"street of seed {seed}: {size['frames']} + {size['eval']} frames in {time.perf_counter() - start:.0f} s")
    return out


def lifted(data: Path, size: dict) -> tuple[float, OccupancyScore]:
    """The best of four scales of patches lifted without training, by IoU."""
    _, val = split_drives(data, read_drives(data))
    records = [f for d in val for f in d.frames]
    names, texts = read_text_table(data / "text_features.json")
    kinds = torch.tensor([PROMPTS[n] for n in names])
    frames = [(load_frame(r, size["width"], size["height"]), r.labels()) for r in records]
    found = []
    for scale in (0.25, 0.35, 0.5, 0.7):
        made = (
            score(occupancy(*lifted_patches(f, scale), texts, kinds, t.grid, OccupancyConfig()).semantics.numpy(), t)
            for f, t in frames
        )
        found.append((scale, total(list(made))))
    return max(found, key=lambda pair: pair[1].iou)


def train(data: Path, out: Path, name: str, steps: int, device: str, extra: list[str]) -> tuple[float, Path]:
    """Minutes of training, and the run's config.yml."""
    place = ["--output-dir", out, "--experiment-name", data.name, "--timestamp", name]
    quiet = ["--machine.device-type", device, "--steps-per-eval-image", 10**7, "--steps-per-eval-all-images", 10**7]
    drop = ["--optimizers.network.scheduler.drop-at", int(steps * 2 / 3), "--optimizers.network.scheduler.warmup",
            max(1, min(60, steps // 10))]  # fmt: skip
    start = time.perf_counter()
    run("ns-train", extra[0], "--data", data, "--max-num-iterations", steps, *place, *quiet, *extra[1:], *drop)
    return (time.perf_counter() - start) / 60, out / data.name / "gausstr-small" / name / "config.yml"


def evaluate(config: Path) -> dict:
    """The scores of a run."""
    run("ns-eval", "--load-config", config, "--output-path", config.parent / "eval.json")
    return json.loads((config.parent / "eval.json").read_text())["results"]


def row(what: str, iou: float, fifteen: float, seventeen: float, rest: str = "") -> None:
    """Print one line of the table."""
    print(f"  {what:<34} IoU {iou:5.1f}   mIoU(15) {fifteen:5.1f}   mIoU(17) {seventeen:5.1f}   {rest}", flush=True)


def published_size(steps: int) -> None:
    """Time and memory of the published size: 504 x 896 pixels, 300 queries a view, features of 768 channels."""
    from ag2_ns.feedforward.config import published
    from ag2_ns.feedforward.losses import step_axes
    from ag2_ns.feedforward.model import Batch, GaussTR
    from ag2_ns.feedforward.objective import objective
    from ag2_ns.rendering.choose import choose_rasterizer
    from ag2_ns.synthetic.street.sensors import CAMERAS

    config = published("talk2dino")
    width, height = config.image
    K = torch.stack([torch.tensor(m.intrinsics(width, height)).float() for m in CAMERAS])[None].cuda()
    pose = torch.stack([torch.tensor(m.cam2ego()).float() for m in CAMERAS])[None].cuda()
    torch.manual_seed(0)
    features = torch.randn(1, 6, 768, 36, 64, device="cuda")
    depth = 2 + 60 * torch.rand(1, 6, 9, 16, device="cuda")
    depth = torch.nn.functional.interpolate(depth, (height, width), mode="bilinear")
    batch, net = Batch(features, depth, K, pose), GaussTR(config.network, 768).cuda()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-4, weight_decay=5e-3)
    scaler, rasterizer = torch.amp.GradScaler("cuda"), choose_rasterizer("auto", "cuda")
    torch.cuda.reset_peak_memory_stats()
    for step in range(steps + 10):
        if step == 10:
            torch.cuda.synchronize()
            start = time.perf_counter()
        with torch.autocast("cuda", torch.float16):
            layers = net(batch)
        axes = step_axes(features.movedim(2, -1).flatten(0, 3), config.loss.channels)
        loss = sum(objective(layers, batch, axes, config.loss, rasterizer).values())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 35.0)
        scaler.step(optimizer)
        scaler.update()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    print(
        f"\npublished size, one frame a step: {seconds:.3f} s a step over {steps} steps, "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most, loss {float(loss):.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--folder", type=Path, default=Path("outputs/occupancy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[200, 201, 202])
    parser.add_argument("--minutes", type=float, default=None, help="of training a row; 12 on the CPU, 10 on CUDA")
    for name in SIZES["cpu"]:
        parser.add_argument(f"--{name}", type=float if name == "reach" else int, help="of the street")
    parser.add_argument("--options", default="", help="further options of ns-train, for all rows, in one string")
    parser.add_argument("--variants", nargs="+", default=["faithful", "carry"], choices=list(VARIANTS))
    parser.add_argument("--published", action="store_true", help="also the published size, 200 steps (CUDA)")
    parser.add_argument("--steps", type=int, help="of training a row, in place of minutes")
    parser.add_argument("--small", action="store_true", help="the CPU's street and network on whatever device")
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument("--skip-voxeliser", action="store_true")
    parser.add_argument("--skip-lifted", action="store_true", help="no patches lifted without training")
    options = parser.parse_args()
    kind, out = "cpu" if options.small else options.device, options.folder
    size = SIZES[kind]
    size |= {name: value for name in size if (value := getattr(options, name)) is not None}
    minutes = options.minutes or (12.0 if options.device == "cpu" else 10.0)
    if not options.skip_voxeliser:
        time_voxeliser(options.device)
    if options.published:
        published_size(200)
    if options.skip_training:
        return
    means: dict[str, list[dict]] = {}
    for seed in options.seeds:
        data = make_street(out, seed, size)
        print(f"\nseed {seed}, {size['width']} x {size['height']} pixels, +-{size['reach']:g} m, {options.device}")
        if not options.skip_lifted:
            scale, base = lifted(data, size)
            row(f"patches lifted, best scale {scale:g}", 100 * base.iou, 100 * base.miou15, 100 * base.miou17)
        for name in options.variants:
            extra = [*VARIANTS[name], *shlex.split(options.options)]
            extra = [*METHOD[kind], *extra]
            steps = options.steps
            if steps is None:
                spent, _ = train(data, out, f"{name}-calibration", CALIBRATION, options.device, extra)
                short, _ = train(data, out, f"{name}-calibration", 3, options.device, extra)
                steps = max(100, int(minutes / max(1e-4, (spent - short) / (CALIBRATION - 3))))
            took, config = train(data, out, name, steps, options.device, extra)
            found = evaluate(config)
            means.setdefault(name, []).append(found)
            rest = f"{steps} steps, {took:.1f} min, {found['seconds_per_frame']:.2f} s a frame"
            row(name, found["iou"], found["miou15"], found["miou17"], rest)
            names = {k[4:].replace("_", " "): round(v) for k, v in found.items() if k.startswith("iou_")}
            print(f"    {names}")
    print("\nmean over seeds")
    for name, found in means.items():
        row(name, *(sum(f[k] for f in found) / len(found) for k in ("iou", "miou15", "miou17")))


if __name__ == "__main__":
    main()
