"""`ag2 prepare --download`: the weights that are named, or that the other options need, with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from ag2_ns.plugin.prepare import Prepare


def fetch(prepare: Prepare) -> None:
    """Fetch; says where everything is.

    Raises:
        UserError: unknown names, or what a server does.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from ag2_ns.core.console import command_line, console
    from ag2_ns.perception.weights import CATALOGUE, downloaded, fetch_weights, lookup

    out = console()
    names = list(prepare.download or ()) or needed(prepare)
    if names == ["list"]:
        for name, weights in CATALOGUE.items():
            there = "" if downloaded(name) is None else "  (fetched)"
            out.print(f"{name:16} {weights.about}{there}")
        return
    if not names and prepare.data is None:
        raise UserError(f"--download: name what to fetch, of: {', '.join(CATALOGUE)}")
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    for weights in [lookup(name) for name in names]:
        if (found := downloaded(weights.name)) is not None:
            out.print(f"{weights.name}: is there already, {found}")
            continue
        out.print(f"{weights.name}: {weights.about}")
        tasks: dict[str, int] = {}
        with Progress(*columns, console=out, transient=True) as bar:

            def progress(name: str, there: int, total: int | None, bar=bar, tasks=tasks) -> None:
                task = tasks.setdefault(name, -1)
                if task < 0:
                    task = tasks[name] = bar.add_task(name, total=total)
                bar.update(task, completed=there, total=total)

            found = fetch_weights(weights, progress=progress)
        out.print(f"{weights.name}: {found}")
        out.print(f"use it:  {command_line('ag2', 'prepare', str(prepare.data or 'DATA'), *weights.options)}")


def needed(prepare: Prepare) -> list[str]:
    """The names among the other options, or the usual weights of what they choose."""
    from ag2_ns.perception.weights import CATALOGUE

    usual = {"sam": "sam-vit_h", "sam2": "sam2.1-large", "sam3": "sam3", "siglip": "siglip2-base"}
    given = {
        "sam": None if prepare.sam_checkpoint is None else str(prepare.sam_checkpoint),
        prepare.segmenter: prepare.checkpoint,
        "siglip": prepare.siglip_checkpoint,
    }
    names = [name for name in given.values() if name in CATALOGUE]
    for chosen in (prepare.segmenter, prepare.encoder):
        if chosen in usual and given.get(chosen) is None:
            names.append(usual[chosen])
    tag = (prepare.clip_model or "ViT-B-16", prepare.clip_checkpoint)
    names += [w.name for w in CATALOGUE.values() if w.tag == tag]
    return list(dict.fromkeys(names))
