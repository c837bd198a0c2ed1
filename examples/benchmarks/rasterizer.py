"""How fast the rasteriser backends are on this machine, and how much memory they take.

    python examples/benchmarks/rasterizer.py                 # CPU, and CUDA where there is one
    python examples/benchmarks/rasterizer.py --device cpu --gaussians 100000 --width 640 --height 480

Gaussians a few pixels wide, spread over the view between depth 2 and 6 with random opacities; the fastest of several
repetitions after a warm-up that compiles. Memory is what the call adds at its peak: on the CPU the process's resident
memory above what it was before, on CUDA the allocator's peak above the inputs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # PyTorch's idle threads would otherwise spin beside ours

import argparse
import ctypes
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from ag2_ns.rendering import Rasterizer, View, choose_rasterizer


def make_scene(count: int, width: int, height: int, pixels: float, device: str) -> tuple[list[torch.Tensor], View]:
    """Means, quaternions, scales and opacities of `count` Gaussians with a median standard deviation of `pixels`."""
    g = torch.Generator().manual_seed(0)
    focal = 0.9 * width
    z = 2 + 4 * torch.rand(count, generator=g)
    uv = (torch.rand(count, 2, generator=g) - 0.5) * 1.1 * torch.tensor([width / focal, height / focal])
    scales = torch.exp(0.4 * torch.randn(count, 3, generator=g)) * (pixels * z / focal)[:, None]
    tensors = [
        torch.cat([uv * z[:, None], z[:, None]], dim=1),
        torch.randn(count, 4, generator=g),
        scales,
        torch.sigmoid(1.5 * torch.randn(count, generator=g)),
    ]
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return [t.to(device) for t in tensors], View(torch.eye(4), K, width, height).to(device)


class PeakMemory:
    """MiB above the level at entry, read while the block runs."""

    def __init__(self, device: str):
        self.device = device
        self.mib = 0.0

    def __enter__(self) -> PeakMemory:
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
        else:
            if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
                libc.malloc_trim(0)  # hand freed memory back, so that it counts again
            self.start, self.peak, self.stop = _resident_bytes(), 0, threading.Event()
            self.thread = threading.Thread(target=self._watch)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
            self.mib = (torch.cuda.max_memory_allocated() - self.start) / 2**20
        else:
            self.stop.set()
            self.thread.join()
            self.mib = max(self.peak - self.start, 0) / 2**20

    def _watch(self) -> None:
        while not self.stop.wait(0.002):
            self.peak = max(self.peak, _resident_bytes())


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def fastest_ms(call: Callable[[], object], device: str, repeat: int) -> float:
    """Milliseconds of the fastest of `repeat` calls, after one that does not count."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times[1:])


def measure(backend: Rasterizer, args: argparse.Namespace, channels: int, device: str) -> list[str]:
    """One row: forward, forward and backward, lift, peak memory."""
    scene, view = make_scene(args.gaussians, args.width, args.height, args.pixels, device)
    values = torch.rand(args.gaussians, channels, device=device)
    maps = torch.rand(args.height, args.width, channels, device=device)

    def forward() -> None:
        with torch.no_grad():
            backend.rasterize(*scene, values, view)

    def forward_backward() -> None:
        leaves = [t.detach().requires_grad_() for t in (*scene, values)]
        raster = backend.rasterize(*leaves, view)
        torch.autograd.backward([raster.values, raster.alpha], [maps, maps[..., :1]])

    def lift() -> None:
        backend.lift(*scene, maps, view)

    forward_backward()
    with PeakMemory(device) as memory:
        forward_backward()
    times = [fastest_ms(call, device, args.repeat) for call in (forward, forward_backward, lift)]
    size = f"{args.width}x{args.height}"
    return [backend.name, f"{args.gaussians}", size, f"{channels}", *(f"{t:.1f}" for t in times), f"{memory.mib:.0f}"]


def measure_lifting(
    backend: Rasterizer, args: argparse.Namespace, device: str, views: int = 80, masks: int = 17
) -> float:
    """Seconds to lift `masks` masks and a channel of ones over `views` views."""
    scene, view = make_scene(args.gaussians, args.width, args.height, args.pixels, device)
    maps = (torch.rand(args.height, args.width, masks + 1, device=device) > 0.5).float()
    totals = torch.zeros(args.gaussians, masks + 1, device=device)
    backend.lift(*scene, maps, view)
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for i in range(views):
        viewmat = view.viewmat.clone()
        viewmat[0, 3] = 0.01 * (i - views / 2)
        totals += backend.lift(*scene, maps, View(viewmat, view.K, view.width, view.height))
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: both where there is CUDA")
    parser.add_argument("--gaussians", type=int, help="default: 20000 on the CPU, 290000 on CUDA")
    parser.add_argument("--width", type=int, help="default: 320 on the CPU, 640 on CUDA")
    parser.add_argument("--height", type=int, help="default: 240 on the CPU, 480 on CUDA")
    parser.add_argument("--channels", type=int, nargs="+", help="default: 3 8 on the CPU, 3 8 16 32 on CUDA")
    parser.add_argument("--pixels", type=float, default=2.0, help="median standard deviation on screen")
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()

    table = Table("backend", "Gaussians", "size", "channels", "forward ms", "fwd + bwd ms", "lift ms", "peak MiB")
    for column in table.columns[1:]:
        column.justify = "right"
    notes = [f"PyTorch {torch.__version__}, {torch.get_num_threads()} CPU threads"]
    devices = [asked.device] if asked.device else ["cpu"] + ["cuda"] * torch.cuda.is_available()
    defaults = {"cpu": (20_000, 320, 240, [3, 8]), "cuda": (290_000, 640, 480, [3, 8, 16, 32])}
    for device in devices:
        args = argparse.Namespace(**vars(asked))
        for name, value in zip(("gaussians", "width", "height", "channels"), defaults[device]):
            setattr(args, name, getattr(args, name) or value)
        backend = choose_rasterizer("auto", device)
        for channels in args.channels:
            table.add_row(*measure(backend, args, channels, device))
        if device == "cuda":
            seconds = measure_lifting(backend, args, device)
            notes.append(f"{torch.cuda.get_device_name()}: lifting 17 masks x 80 views took {seconds:.2f} s")
    console = Console(width=110)
    console.print(table)
    for note in notes:
        console.print(note)


if __name__ == "__main__":
    main()
