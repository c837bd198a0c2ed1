"""`ag2 prepare`: masks and language features for every view of a scene."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ag2_ns.core.errors import UserError
from ag2_ns.ops.processes import num_cores, prepare_server

FORKED = "ag2_ns.perception.forked"
"""What workers have loaded."""

MOST_THREADS = 8
"""Of torch, in one process: views are small, and 64 threads that wait for each other take seven times as long."""

VIEWS_PER_WORKER = 8
"""Fewer do not pay for the start of a process."""

if TYPE_CHECKING:
    from ag2_ns.perception.encoder import Encoder
    from ag2_ns.perception.segmenter import Segmenter
    from ag2_ns.plugin.undistorted import ServedImages


@dataclass
class Prepare:
    """Make masks and language features of exactly the images that training will serve; of drives, features and depth.

    They are stored beside the scene in ag2/. Valid views are skipped, so a run may be stopped and started again.
    Without checkpoints everything works offline: superpixel masks, colour words.
    """

    data: tyro.conf.Positional[Path | None] = None
    """The scene: a folder with transforms.json or a COLMAP model; or drives of surround cameras. Only --download goes
    without."""
    segmenter: str = "auto"
    """auto, superpixel, sam, sam2, sam3, files or langsplat. auto: files if masks_sparse/ exists, langsplat if
    language_features/ does, sam with a checkpoint, else superpixel."""
    encoder: str = "auto"
    """auto, palette, kinds, openclip, siglip, table, langsplat or none. auto: table where clip_features/ goes with the
    masks, langsplat with its masks, siglip with --siglip-checkpoint, openclip with --clip-checkpoint or --clip-model,
    else kinds where ag2-ns[words] is installed, else palette (colour words). Drives: dinov2, maskclip or none."""
    preset: Literal["coarse", "default", "detail"] = "default"
    """Few large masks, or many small ones (superpixel, sam)."""
    cues: Literal["colours", "network"] = "colours"
    """What superpixels are merged by: colours and edges, or also features of a small network (needs ag2-ns[words]),
    which see fur in light and shade as one: better where pictures are small and few, worse where they are not."""
    sam_checkpoint: Path | None = None
    """A segment-anything checkpoint: vit_b, vit_l or vit_h, recognised by its content."""
    checkpoint: str | None = None
    """Weights of sam2 or sam3: a folder, or a name that --download fetched."""
    words: tuple[str, ...] = ()
    """sam3: masks of what these words name, and of nothing else."""
    masks_dir: Path | None = None
    """Your own masks (.pt, id images or folders of binary images), or LangSplat's and COS3D's X_s.npy and X_f.npy;
    default: DATA/masks_sparse, DATA/language_features."""
    masks_level: Literal["all", "default", "s", "m", "l"] = "all"
    """langsplat: the level whose masks are taken; all takes parts and wholes."""
    resize_masks: bool = False
    """Accept masks of another size with the same aspect ratio."""
    masks_on: Literal["auto", "disk", "undistorted"] = "auto"
    """Which pictures your own masks were made on: those on disk, or undistorted ones (`ag2 undistort`). auto goes by
    their size, and where both have the same by which edges they follow."""
    allow_missing_masks: bool = False
    """Images without a mask file get no masks, instead of being an error."""
    clip_model: str | None = None
    """An open_clip model name (ViT-B-16, ViT-B-16-SigLIP, ...)."""
    clip_checkpoint: str | None = None
    """Its weights: a file, or the name of a pretrained tag that is in the local cache (see --download)."""
    siglip_checkpoint: str | None = None
    """Weights of siglip: a folder, or a name that --download fetched."""
    prompts: str = "photo"
    """Prompt templates of text queries: plain, photo, ensemble, or your own with {} for the text."""
    download: tuple[str, ...] | None = None
    """Fetch weights from their publishers, checked and resumable: by name (sam-vit_h, sam2.1-large, sam3, siglip2-base,
    openclip-b16, …; list names them all), or those that the other options name."""
    clip_features_dir: Path | None = None
    """Features of your own masks, one .pt per image; default: DATA/clip_features."""
    text_features: Path | None = None
    """JSON of text to vector for these features; default: DATA/text_features.json."""
    downscale_factor: int | None = None
    """Work on images_2, images_4, ...; unset: as training chooses. Give the same to ns-train, at its end:
    ag2-data --downscale-factor N."""
    colmap_path: Path | None = None
    """Which COLMAP model of several, for instance sparse/1; unset: the one with most views. Give the same to
    ns-train, at its end: ag2-data --colmap-path PATH."""
    depth: str | None = None
    """Drives: lidar, or the folder of a metric depth model of transformers."""
    weights: Path | None = None
    """Drives: folder of DINOv2 as transformers stores it."""
    talk2dino: Path | None = None
    """Drives: weights of Talk2DINO, which takes CLIP's texts to DINOv2's patches."""
    patch_size: tuple[int, int] | None = None
    """Drives: width and height that pictures are encoded at; 896 504 for dinov2, 768 432 for maskclip."""
    device: str = "auto"
    """auto, cpu or cuda."""
    overwrite: bool = False
    """Renew everything, also what another segmenter or encoder made; where only the encoder is another one, the masks
    are kept. What is there stays in use until every view is done."""
    shard: str = "1/1"
    """i/n: do the i-th of n parts, for several GPUs or machines."""
    workers: int | None = None
    """Processes that work at a time, where all is done on the CPU (superpixel; palette, kinds); unset: one
    per core and 8 views, while memory lasts."""
    export_pair: Path | None = None
    """Also write masks_sparse/ and clip_features/ into this folder, for AG2aussian's published code."""
    export_language_features: Path | None = None
    """Also write X_s.npy and X_f.npy of every image into this folder, for LangSplat's and COS3D's code."""
    preview_every: int = 24
    """Write a preview sheet (image, masks) per so many views; 0: none."""

    def main(self) -> None:
        """Prepare the scene and say what was done."""
        if self._cores_alone():
            prepare_server(FORKED)  # while this process imports torch and nerfstudio
        from ag2_ns.plugin import prepare_drives
        from ag2_ns.plugin.undistorted import served_images

        if self.download is not None:
            from ag2_ns.plugin.prepare_weights import fetch

            fetch(self)
        if self.data is None:
            if self.download is None:
                raise UserError("name the scene: ag2 prepare DATA; or weights to fetch: ag2 prepare --download NAME")
            return
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers {self.workers}: give a number from 1")
        if prepare_drives.is_drives(self.data):
            prepare_drives.prepare(self)
            return
        self.prepare(served_images(self.data, None, self.downscale_factor, self.colmap_path))

    def _cores_alone(self) -> bool:
        """Whether several processes will probably share the views; told without imports that take time."""
        from ag2_ns.io.prepare_command import auto_segmenter

        several = num_cores() > 1 if self.workers is None else self.workers > 1
        there = self.data is not None and self.data.exists()
        if not (several and there and self.encoder in ("auto", "palette", "kinds", "none")):
            return False
        folder = self.data if self.data.is_dir() else self.data.parent
        found = auto_segmenter(folder, self.masks_dir, self.sam_checkpoint)
        return self.segmenter == "superpixel" or (self.segmenter == "auto" and found == "superpixel")

    def prepare(self, views: ServedImages) -> None:
        """Prepare the views of a scene, whichever dataparser gave them, and say what was done.

        Args:
            views: of the scene `data`.
        """
        import torch
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from ag2_ns.core.console import console
        from ag2_ns.io.exchange import aside
        from ag2_ns.perception.prepare import prepare_views

        shard = parse_shard(self.shard)
        if self.preview_every < 0:
            raise UserError(f"--preview-every {self.preview_every}: give the number of views per sheet, or 0 for none")
        out = console()
        segmenter, encoder = self.make_segmenter(), self.make_encoder()
        self._tell_lenses(segmenter, views)
        parts = f"{segmenter.name} masks" + (f", {encoder.name} features" if encoder else "")
        out.print(f"{self.data}: {len(views)} views at 1/{views.downscale:g} size, {parts}")
        what = TextColumn("{task.description}", markup=False)
        columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        started = time.perf_counter()
        with Progress(*columns, console=out, transient=True) as bar:
            task = bar.add_task("preparing", total=None)

            def progress(done: int, total: int, name: str) -> None:
                bar.update(task, completed=done, total=total, description=name or "done")

            threads = torch.get_num_threads()
            torch.set_num_threads(min(threads, MOST_THREADS))
            try:
                summary = prepare_views(
                    list(views),
                    segmenter,
                    encoder,
                    self.data,
                    downscale=views.downscale,
                    overwrite=self.overwrite,
                    shard=shard,
                    preview_every=self.preview_every,
                    workers=self._workers(segmenter, encoder, len(views)),
                    progress=progress,
                )
            finally:
                torch.set_num_threads(threads)  # training may follow
        seconds = time.perf_counter() - started
        count = max(summary.segmented, summary.encoded) + summary.skipped
        out.print(
            f"{summary.segmented} segmented, {summary.encoded} encoded, {summary.skipped} valid already; "
            f"{summary.masks / max(count, 1):.0f} masks per view; {seconds:.1f} s"
        )
        if summary.empty:
            out.print(f"no masks in {len(summary.empty)} views: {', '.join(summary.empty[:5])}")
        if summary.orphaned and summary.removed:
            out.print("the features of the earlier masks were removed; without --encoder none new ones are made")
        elif summary.orphaned:
            out.print(
                f"features of {summary.orphaned} views belong to earlier masks and will be refused; without "
                "--encoder none new ones are made"
            )
        if not summary.in_use:
            out.print("what was there stays in use until the other shards are done")
        elif (left := aside(summary.masks_folder).parent).exists():
            out.print(f"{left}: a renewal that was stopped; give its options and --overwrite to go on, or remove it")
        out.print(f"masks: {summary.masks_folder}")
        if summary.in_use:
            self._export(views.downscale, encoder is not None)
        if summary.sheets:
            out.print(f"look at: {summary.sheets[0].parent}")
        if summary.in_use:
            out.print(f"train:   {self.training()}")

    def _export(self, downscale: float, described: bool) -> None:
        """Write what was prepared in the layouts of others."""
        if self.export_pair is None and self.export_language_features is None:
            return
        from ag2_ns.core.console import console
        from ag2_ns.io.feature_store import FeatureStore
        from ag2_ns.io.language_features import export_language_features
        from ag2_ns.io.mask_store import MaskStore
        from ag2_ns.io.published_files import export_pair

        masks = MaskStore.open(self.data, downscale)
        features = FeatureStore.open(self.data, downscale) if described else None
        for folder, write in (
            (self.export_pair, export_pair),
            (self.export_language_features, export_language_features),
        ):
            if folder is not None:
                console().print(f"{write(masks, features, folder)} views exported to {folder}")

    def _tell_lenses(self, segmenter: Segmenter, views: ServedImages) -> None:
        """Let masks from files know how the pictures were undistorted, and find out what they were made on."""
        from ag2_ns.core.console import console
        from ag2_ns.perception.files import JUDGED_VIEWS, FilesSegmenter

        if not isinstance(segmenter, FilesSegmenter):
            return
        segmenter.undistortions = {view.name: view.undistortion for view in views}
        bent = [view for view in views if view.undistortion.route != "none"]
        step = max(len(bent) // JUDGED_VIEWS, 1)
        found = segmenter.judge([(view.name, view.load()) for view in bent[::step][:JUDGED_VIEWS]])
        if found is not None:
            other = "undistorted" if found == "disk" else "disk"
            where = "pictures on disk, and are undistorted with them" if found == "disk" else "undistorted pictures"
            console().print(
                f"{segmenter.folder}: by their edges these masks were made on the {where} (else add --masks-on {other})"
            )

    def training(self) -> str:
        """The command that trains on what was prepared."""
        import torch

        from ag2_ns.core.console import command_line

        method = "ag2aussian" if torch.cuda.is_available() else "ag2aussian-small"
        given = {"--downscale-factor": self.downscale_factor, "--colmap-path": self.colmap_path}
        words = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        return command_line("ns-train", method, "--data", self.data, *(["ag2-data", *words] if words else []))

    def make_segmenter(self) -> Segmenter:
        """The segmenter these options ask for."""
        from ag2_ns.io.prepare_command import MASKS
        from ag2_ns.perception import segmenter as registry

        name, folder = self._segmenter_name(), self.masks_dir or self._folder() / MASKS
        options: dict = {}
        if name == "files":
            options = {
                "folder": folder,
                "resize": self.resize_masks,
                "allow_missing": self.allow_missing_masks,
                "made_on": self.masks_on,
            }
        elif name == "sam":
            options = {"checkpoint": self.sam_checkpoint, "preset": self.preset, "device": self._device()}
        elif name == "sam2":
            options = {"checkpoint": self.checkpoint, "preset": self.preset, "device": self._device()}
        elif name == "sam3":
            options = {"checkpoint": self.checkpoint, "preset": self.preset, "device": self._device()}
            options["words"] = self.words
        elif name == "langsplat":
            options = {"folder": self._language_features(), "level": self.masks_level, "resize": self.resize_masks}
        elif name == "superpixel":
            options = {"preset": self.preset, "cues": self.cues}
        return registry.make_segmenter(name, **options)

    def make_encoder(self) -> Encoder | None:
        """The encoder these options ask for, or None."""
        from ag2_ns.io.prepare_command import FEATURES, TEXTS, auto_encoder
        from ag2_ns.perception import encoder as registry

        folder, name = self._folder(), self.encoder
        if name == "none":
            return None
        if name == "auto":
            clip = bool(self.clip_checkpoint or self.clip_model)
            own = "langsplat" if self._segmenter_name() == "langsplat" else "siglip" if self.siglip_checkpoint else None
            name = own or auto_encoder(folder, self._segmenter_name(), self.clip_features_dir, clip)
            if name == "palette":
                from ag2_ns.perception.kinds import available

                name = "kinds" if available() else name
        options: dict = {}
        if name == "table":
            texts = self.text_features or folder / TEXTS
            options = {
                "features": self.clip_features_dir or folder / FEATURES,
                "texts": texts if self.text_features or texts.is_file() else None,
            }
        elif name == "siglip":
            options = {"checkpoint": self.siglip_checkpoint, "prompts": self.prompts, "device": self._device()}
        elif name == "langsplat":
            options = {"folder": self._language_features(), "level": self.masks_level, "device": self._device()}
            if self.siglip_checkpoint:
                options |= {"by": "siglip", "options": {"checkpoint": self.siglip_checkpoint}}
            elif self.clip_checkpoint:
                model = self.clip_model or "ViT-B-16"
                options["options"] = {"model": model, "checkpoint": self.clip_checkpoint, "prompts": self.prompts}
        elif name == "kinds":
            options = {"device": self._device()}
        elif name == "openclip":
            options = {
                "model": self.clip_model or "ViT-B-16",
                "checkpoint": self.clip_checkpoint,
                "prompts": self.prompts,
                "download": self.download is not None,
                "device": self._device(),
            }
        return registry.make_encoder(name, **options)

    def _segmenter_name(self) -> str:
        from ag2_ns.io.prepare_command import auto_segmenter

        if self.segmenter != "auto":
            return self.segmenter
        from ag2_ns.perception.langsplat import find_folder

        found = auto_segmenter(self._folder(), self.masks_dir, self.sam_checkpoint)
        own = self.masks_dir is not None and any(self.masks_dir.glob("*_s.npy"))
        return "langsplat" if own or (found == "superpixel" and find_folder(self._folder())) else found

    def _language_features(self) -> Path:
        from ag2_ns.io.language_features import FOLDERS
        from ag2_ns.perception.langsplat import find_folder

        return self.masks_dir or find_folder(self._folder()) or self._folder() / FOLDERS[0]

    def _folder(self) -> Path:
        from ag2_ns.io.view_store import data_folder

        return data_folder(self.data)

    def _workers(self, segmenter: Segmenter, encoder: Encoder | None, views: int) -> int:
        """Processes for this work: one where anything but this machine's cores does it."""
        import psutil

        each = [getattr(maker, "process_bytes", 0) for maker in (segmenter, encoder) if maker is not None]
        if not all(each):
            return 1
        if self.workers is not None:
            return min(self.workers, max(views, 1))
        room = psutil.virtual_memory().available // (2 * sum(each))
        return max(min(num_cores(), views // VIEWS_PER_WORKER, room), 1)

    def chosen_device(self) -> str:
        """Where models run."""
        return self._device()

    def _device(self) -> str:
        from ag2_ns.ops.device import choose_device

        return choose_device(self.device)


def parse_shard(text: str) -> tuple[int, int]:
    """`i/n` as two numbers, 1 <= i <= n.

    Raises:
        UserError: not of that form.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {text}: give i/n with i from 1 to n, for instance 1/4")
    return int(match[1]), int(match[2])
