"""SAM 2, SAM 3 and SigLIP of random weights at their published sizes, with the time of each step per picture.

They are saved as their publishers do, loaded and called as `ag2 prepare` does. Random weights cost what trained ones
do, but for how many masks pass the filters: a threshold lets --masks of them through.

    python examples/benchmarks/encoders.py --device cuda
    python examples/benchmarks/encoders.py --tiny            # CPU
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.encoder import make_encoder
from ag2_ns.perception.segmenter import make_segmenter

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
import tiny_models

SAM2_LARGE = {
    "hidden_size": 144,
    "blocks_per_stage": [2, 6, 36, 4],
    "embed_dim_per_stage": [144, 288, 576, 1152],
    "num_attention_heads_per_stage": [2, 4, 8, 16],
    "window_size_per_stage": [8, 4, 16, 8],
    "global_attention_blocks": [23, 33, 43],
    "window_positional_embedding_background_size": [7, 7],
}
"""Hiera-L of facebook/sam2.1-hiera-large."""


def write_sam2(folder: Path) -> Path:
    """SAM 2.1 large."""
    from transformers import Sam2Config, Sam2Model

    config = Sam2Config(
        vision_config={
            "backbone_config": {"model_type": "sam2_hiera_det_model", **SAM2_LARGE},
            "backbone_channel_list": [1152, 576, 288, 144],
        }
    )
    Sam2Model(config).save_pretrained(folder)
    return folder


def write_sam3(folder: Path) -> Path:
    """SAM 3, whose published sizes are the library's defaults."""
    from safetensors.torch import load_file, save_file
    from transformers import Sam3VideoConfig, Sam3VideoModel

    Sam3VideoModel(Sam3VideoConfig()).to(torch.bfloat16).save_pretrained(folder, max_shard_size="20GB")
    path = folder / "model.safetensors"
    once = {k.replace("tracker_model.tracker_model.", "tracker_model."): v for k, v in load_file(path).items()}
    save_file(once, path, {"format": "pt"})
    tiny_models.write_tokenizer(folder)
    return folder


def write_siglip(folder: Path) -> Path:
    """SigLIP 2 base, 16 pixels a patch, 224 a side."""
    from transformers import SiglipConfig, SiglipModel

    SiglipModel(SiglipConfig(text_config={"vocab_size": 256_000})).save_pretrained(folder)
    tiny_models.write_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    return folder


@dataclass
class Encoders:
    """Time per picture."""

    device: str = "cpu"
    tiny: bool = False
    """The smallest sizes, to try this script."""
    write_only: Path | None = None
    """Only write the models here (on the CPU), for a later call with --folder."""
    folder: Path | None = None
    """Models that were written."""
    width: int = 640
    height: int = 480
    masks: int = 150
    """That pass the filters in a picture."""
    repeat: int = 3

    def main(self) -> None:
        """Write, load, time, print."""
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as scratch:
            root = self.write_only or self.folder or Path(scratch)
            if self.folder is None:
                writers = {
                    "sam2": tiny_models.write_tiny_sam2 if self.tiny else write_sam2,
                    "sam3": tiny_models.write_tiny_sam3 if self.tiny else write_sam3,
                    "siglip": tiny_models.write_tiny_siglip if self.tiny else write_siglip,
                }
                for name, write in writers.items():
                    write(root / name)
            if self.write_only is None:
                self._measure(root)

    def _measure(self, root: Path) -> None:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 255, (self.height // 16, self.width // 16, 3)).astype(np.uint8)
        image = image.repeat(16, 0).repeat(16, 1)
        table = Table("model", "M weights", "load s", "step", "ms", "GiB", title=f"{image.shape[1]}x{image.shape[0]}")

        def row(name: str, weights: float, load: float, step: str, call: Callable[[], object]) -> None:
            milliseconds = 1000 * self._median(call)
            memory = torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else float("nan")
            table.add_row(name, f"{weights:.0f}", f"{load:.1f}", step, f"{milliseconds:.1f}", f"{memory:.1f}")
            print(name, step, f"{milliseconds:.1f} ms", flush=True)

        with torch.inference_mode():
            for name in ("sam2", "sam3"):
                self._points(name, root / name, image, row)
            self._words(root / "sam3", image, row)
            self._crops(root / "siglip", image, row)
            for name in ("sam2", "sam3"):  # last: how many masks pass, and so the time, is not sure
                self._points(name, root / name, image, row, everything=True)
        Console(width=120).print(table)

    def _points(self, name: str, folder: Path, image: np.ndarray, row: Callable, everything: bool = False) -> None:
        self._fresh()
        start = time.perf_counter()
        made = make_segmenter(name, checkpoint=folder, device=self.device, points_per_side=32)
        size, load = count(made.model), time.perf_counter() - start
        if not everything:
            row(name, size, load, "picture", lambda: made.embed(image))
        seen, square = made.embed(image)
        points = torch.rand(1024, 2, device=self.device) * square[0]

        def decode() -> list:
            return [made.decode(seen, p) for p in points.split(256 if self.device == "cuda" else 32)]

        if not everything:
            row(name, size, load, "1,024 points", decode)
            return
        quality = torch.cat([q.flatten() for _, q in decode()])
        least = float(quality.topk(min(self.masks, len(quality))).values[-1])
        made.preset = replace(made.preset, pred_iou=least, stability=-1.0, box_iou=1.0)
        row(name, size, load, f"all, {len(made.segment(image))} masks", lambda: made.segment(image))

    def _words(self, folder: Path, image: np.ndarray, row: Callable) -> None:
        self._fresh()
        start = time.perf_counter()
        made = make_segmenter("sam3", checkpoint=folder, device=self.device, words=("red mug", "blue disc"))
        size, load = count(made.finder), time.perf_counter() - start
        row("sam3", size, load, "picture and a word", lambda: made.find(image.copy(), "red mug", least=0.0))
        made.find(image, "red mug", least=0.0)
        row("sam3", size, load, "a further word", lambda: made.find(image, "blue disc", least=0.0))

    def _crops(self, folder: Path, image: np.ndarray, row: Callable) -> None:
        self._fresh()
        start = time.perf_counter()
        encoder = make_encoder("siglip", checkpoint=folder, device=self.device, prompts="plain")
        dense = torch.zeros(self.masks, *image.shape[:2], dtype=torch.bool)
        places = np.random.default_rng(1).integers(0, (self.height - 80, self.width - 80), (self.masks, 2))
        for k, (y, x) in enumerate(places):
            dense[k, y : y + 80, x : x + 80] = True
        masks = MaskSet.from_dense(dense)
        encoder.encode_image(image, masks)
        size, load = count(encoder._model), time.perf_counter() - start
        row("siglip", size, load, f"{self.masks} crops", lambda: encoder.encode_image(image, masks))
        row("siglip", size, load, "a text", lambda: encoder._encode_text(["red mug"]))

    def _fresh(self) -> None:
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _median(self, call: Callable[[], object]) -> float:
        times = []
        for _ in range(self.repeat + 1):
            start = time.perf_counter()
            call()
            if self.device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return float(np.median(times[1:]))


def count(model: torch.nn.Module) -> float:
    """Millions of weights."""
    return sum(p.numel() for p in model.parameters()) / 1e6


if __name__ == "__main__":
    tyro.cli(Encoders).main()
