"""Time and size of `ag2 prepare`, per step.

    python examples/benchmarks/prepare.py SCENE [--device cuda] [--sam vit_h] [--clip ViT-B-16]

Superpixel, palette and the stores are measured on the scene's own images. SAM and OpenCLIP run at their real sizes with
random weights that are written as checkpoints and loaded like any other: the time does not depend on the weights, the
number of masks does, so the mask filters are opened for the part that is timed after the network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ag2_ns.core.masks import MaskSet
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_store import Manifest, image_print
from ag2_ns.perception.encoder import make_encoder
from ag2_ns.perception.prepare import as_rgb
from ag2_ns.perception.segmenter import make_segmenter
from ag2_ns.plugin.undistorted import served_images


def seconds(work, *arguments, device: str = "cpu", repeat: int = 1):
    """Mean seconds of a call, and its last result."""
    started = time.perf_counter()
    for _ in range(repeat):
        result = work(*arguments)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeat, result


def random_sam(name: str, folder: Path) -> Path:
    """A checkpoint of segment-anything with random weights that lets masks through."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    model = sam_model_registry[name]()
    model.mask_decoder.iou_prediction_head.layers[-1].bias.data += 1.0
    torch.save(model.state_dict(), folder / f"{name}.pth")
    return folder / f"{name}.pth"


def random_clip(name: str, folder: Path) -> Path:
    """A checkpoint of an open_clip model with random weights."""
    import open_clip

    torch.manual_seed(0)
    torch.save(open_clip.create_model(name).state_dict(), folder / f"{name}.pt")
    return folder / f"{name}.pt"


def without_weights(table: Table, names: list[str], images: list[np.ndarray], folder: Path) -> list[MaskSet]:
    """Superpixel masks, palette features, and both stores."""
    segmenter, encoder = make_segmenter("superpixel"), make_encoder("palette")
    segmenter.segment(images[0], "")
    encoder.encode_image(images[0], segmenter.segment(images[0], ""), "")
    masks_to = MaskStore.create(folder, Manifest(segmenter.name, segmenter.settings))
    features_to = FeatureStore.create(folder, Manifest(encoder.name, encoder.settings))
    spent, sets = np.zeros(6), []
    for name, image in zip(names, images):
        t0, masks = seconds(segmenter.segment, image, name)
        t1, features = seconds(encoder.encode_image, image, masks, name)
        t2, digest = seconds(image_print, image)
        t3, identity = seconds(masks_to.write, name, masks, digest)
        features_to.write(name, features, identity)
        t4, _ = seconds(masks_to.read, name, digest)
        t5, _ = seconds(features_to.read, name)
        spent += (t0, t1, t2, t3, t4, t5)
        sets.append(masks)
    count = f"{np.mean([len(m) for m in sets]):.0f} masks"
    size = np.mean([masks_to.path(n).stat().st_size for n in names]) / 1e3
    rows = ("superpixel", "palette", "image hash", "write masks", "read masks", "read features")
    notes = (count, "", "", f"{size:.1f} kB", count, "")
    for row, time_spent, note in zip(rows, spent / len(images), notes):
        table.add_row(row, "cpu", f"{time_spent * 1e3:.1f}", note)
    return sets


def with_sam(table: Table, name: str, image: np.ndarray, device: str, folder: Path) -> None:
    """segment-anything at full size: its network alone, then the whole segmenter."""
    checkpoint = random_sam(name, folder)
    segmenter = make_segmenter("sam", checkpoint=checkpoint, preset="coarse", device=device)
    for _ in range(2):  # the second is warm
        alone, (_, size) = seconds(segmenter._embed, image, device=device)
    table.add_row(f"sam {name}: image encoder", device, f"{alone * 1e3:.0f}", f"{size[1]}x{size[0]}")
    opened = replace(segmenter.preset, stability=0.0, box_iou=1.0, min_region=0)
    few = 300 if device != "cpu" else 20
    for preset, note in ((segmenter.preset, "coarse"), (replace(segmenter.preset, pred_iou=9.0), "no mask passes")):
        segmenter.preset = preset
        whole, masks = seconds(segmenter.segment, image, "", device=device)
        table.add_row(f"sam {name}: whole segmenter", device, f"{whole * 1e3:.0f}", f"{note}, {len(masks)} masks kept")
    side = int(few**0.5) // 2 + 1
    segmenter.preset = replace(opened, points_per_side=side, contained=None)
    whole, masks = seconds(segmenter.segment, image, "", device=device)
    table.add_row(f"sam {name}: filters open", device, f"{whole * 1e3:.0f}", f"{3 * side**2} masks compared")


def with_clip(table: Table, name: str, image: np.ndarray, masks: MaskSet, device: str, folder: Path) -> None:
    """An open_clip model at full size on one view's masks."""
    encoder = make_encoder("openclip", model=name, checkpoint=random_clip(name, folder), device=device, cache=folder)
    encoder.encode_image(image, masks, "")
    spent, _ = seconds(encoder.encode_image, image, masks, "", device=device)
    table.add_row(f"openclip {name}", device, f"{spent * 1e3:.0f}", f"{len(masks)} masks")
    text, _ = seconds(encoder.encode_text, ["the red mug"], device=device)
    again, _ = seconds(encoder.encode_text, ["the red mug"], device=device)
    table.add_row(f"openclip {name}: one text", device, f"{text * 1e3:.1f}", f"{again * 1e3:.1f} ms from the cache")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scene", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--sam", default="", help="vit_b, vit_l or vit_h; none by default")
    parser.add_argument("--clip", default="", help="an open_clip model; none by default")
    options = parser.parse_args()
    views = list(served_images(options.scene))
    views = views[:: max(len(views) // options.views, 1)][: options.views]
    images = [as_rgb(view.load()) for view in views]
    height, width = images[0].shape[:2]
    table = Table("step", "device", "ms per view", "", title=f"{options.scene}: {width}x{height}, {len(images)} views")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = without_weights(table, [v.name for v in views], images, folder)
        if options.sam:
            with_sam(table, options.sam, images[0], options.device, folder)
        if options.clip:
            with_clip(table, options.clip, images[0], sets[0], options.device, folder)
    Console().print(table)


if __name__ == "__main__":
    main()
