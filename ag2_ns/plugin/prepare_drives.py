"""`ag2 prepare` for drives of surround cameras: patch features, depth and texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.perception.drives import DepthSource
    from ag2_ns.perception.patches import PatchEncoder
    from ag2_ns.plugin.prepare import Prepare


def is_drives(folder: Path) -> bool:
    """Whether a folder holds drives and not one scene."""
    from ag2_ns.io.surround import DRIVE, SINGLE

    return folder.is_dir() and not (folder / "transforms.json").exists() and (
        any((folder / name).is_file() for name in (DRIVE, SINGLE))
        or any(folder.glob(f"*/{DRIVE}"))
        or any(folder.glob("v1.0-*/scene.json"))
    )  # fmt: skip


def prepare(options: Prepare) -> None:
    """Make what the drives lack, and say what was done."""
    from ag2_ns.core.console import command_line, console
    from ag2_ns.core.notice import view_progress
    from ag2_ns.io.surround import read_drives
    from ag2_ns.perception.drives import prepare_drives, write_texts
    from ag2_ns.plugin.surround_datamanager import TABLES

    device = options.chosen_device()
    encoder, depth = _encoder(options, device), _depth(options, device)
    if encoder is None and depth is None:
        raise UserError(
            f"{options.data}: drives; say what to make: --encoder dinov2 --weights FOLDER or --encoder maskclip "
            "--clip-checkpoint FILE for features, --depth lidar or --depth FOLDER (a model's) for depth"
        )
    drives = read_drives(options.data)
    started = time.perf_counter()
    with view_progress(sum(len(d.frames) for d in drives), "frames") as done:
        made = prepare_drives(drives, encoder, depth, overwrite=options.overwrite, done=done)
    out = console()
    out.print(
        f"{made.features} pictures encoded, depth of {made.depth}, {made.kept} whole already; "
        f"{time.perf_counter() - started:.1f} s"
    )
    tables = [options.data / name for name in TABLES if (options.data / name).is_file()]
    if encoder is not None and (not tables or options.overwrite):
        try:
            write_texts(options.data / TABLES[0], encoder)
            out.print(f"texts:   {options.data / TABLES[0]}")
        except UserError as error:
            out.print(f"no texts: {error}")
    out.print(f"train:   {command_line('ns-train', 'gausstr', '--data', options.data)}")


def _encoder(options: Prepare, device: str) -> PatchEncoder | None:
    from ag2_ns.perception.patches import ClipPatchEncoder, DinoEncoder

    sizes = {} if options.patch_size is None else {"size": options.patch_size}
    if options.encoder == "dinov2":
        if options.weights is None:
            raise UserError("--encoder dinov2 needs --weights FOLDER, DINOv2 as transformers stores it")
        clip = None
        if options.clip_checkpoint is not None and options.talk2dino is not None:
            clip = ClipPatchEncoder(options.clip_model or "ViT-B-16", options.clip_checkpoint, device=device)
        return DinoEncoder(options.weights, text_model=clip, projection=options.talk2dino, device=device, **sizes)
    if options.encoder == "maskclip":
        if options.clip_checkpoint is None:
            raise UserError("--encoder maskclip needs --clip-checkpoint FILE, the weights of --clip-model")
        return ClipPatchEncoder(options.clip_model or "ViT-B-16", options.clip_checkpoint, device=device, **sizes)
    if options.encoder not in ("auto", "none"):
        raise UserError(f"--encoder {options.encoder}: not for drives; choose dinov2, maskclip or none")
    return None


def _depth(options: Prepare, device: str) -> DepthSource | None:
    from ag2_ns.perception.depth import DepthModel, LidarDepth

    if options.depth is None:
        return None
    return LidarDepth() if options.depth == "lidar" else DepthModel(Path(options.depth), device)
