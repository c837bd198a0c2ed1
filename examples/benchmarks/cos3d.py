"""COS3D's language field, faithful and ours, with its branches, image queries and absent prompts, on trained scenes.

Each world is made, prepared and trained by the commands that a user would type; then every way to answer is asked every
label as a text, the image feature of an object of the same kind from another seed, and labels of other scenes that
are absent here. Answers are by the floor alone, as of an encoder without rivals; ours also with other words as rivals:
nouns, as of an encoder that takes any text, and a closed list of all labels that such scenes may hold.

    python examples/benchmarks/cos3d.py --output OUT --seeds 200 201 202 203 204 --processes 14 --minutes 7 \\
        --worlds tabletop:14:1 tabletop:14:2 tabletop:20:1 tabletop:20:2 tabletop:40:1 tabletop:40:2 wild:14   # CUDA
    python examples/benchmarks/cos3d.py --output OUT --worlds tabletop:8:1 --views 24 --width 160 --steps 300   # CPU
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from runs import Making, Method, at_once

import ag2_ns
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.selection import Selection
from ag2_ns.eval.benchmark import match_views
from ag2_ns.eval.formats import read_benchmark
from ag2_ns.eval.masks3d import evaluate_masks
from ag2_ns.io.view_store import view_stem
from ag2_ns.language.field import LanguageField
from ag2_ns.language.regression import KernelConfig, MlpConfig
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.query.collaborative import Strategy, ask_field, refined, select_units
from ag2_ns.query.config import DEFAULTS
from ag2_ns.query.image import select_picture
from ag2_ns.query.refinement import stretched
from ag2_ns.query.rivals import rivals_of, within
from ag2_ns.query.vector import select_vector
from ag2_ns.scene.build_field import LanguageFieldConfig, collect_pairs, field_config, regress, smooth
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.splat.instance_field import InstanceFieldConfig, train_instance_field
from ag2_ns.splat.prototype_loss import PUBLISHED
from ag2_ns.synthetic.tabletop import language as mild
from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS, COLOURS, KINDS
from ag2_ns.synthetic.tabletop.segmenter import Proposal
from ag2_ns.synthetic.wild import WILD
from ag2_ns.synthetic.wild.language import Meanings, WildEncoder
from ag2_ns.synthetic.wild.masks import WildMask
from ag2_ns.synthetic.wild.truth import SceneTruth, ViewTruth

LABELS = [f"{colour} {kind}" for colour in COLOURS for kind in KINDS]
"""What table-tops may hold."""
ABSENT = 12
"""Labels of other scenes that each scene is asked: half of them of a kind that is here in another colour."""
HEADS = (
    "text mIoU", "Acc@.5", "image mIoU", "image Acc", "kept", "absent", "absent kind", "kept nouns", "absent nouns",
    "kept listed", "absent listed", "listed mIoU", "ms/text", "field s", "GB",
)  # fmt: skip
"""kept: texts of things that are there and select something; absent: those of things that are not, and do."""


class Words:
    """The simulated encoder of a world: texts, and pictures of a thing alone from another scene."""

    def __init__(self, world: str, device: str) -> None:
        kind, _, noise = world.partition(":")
        self.wild = kind != "tabletop"
        self.noise = float(noise.partition(":")[2] or 1) if not self.wild else 0.0
        self.device, self.meanings = device, Meanings(tuple(ALL_KINDS))
        self.known: dict[str, np.ndarray] = {}

    def texts(self, texts: list[str]) -> torch.Tensor:
        """One row each."""
        new = [t for t in dict.fromkeys(texts) if t not in self.known]
        table = self.meanings.embed(new) if self.wild else mild.text_features(new)
        self.known |= {t: np.array(table[t]) for t in new}
        return torch.tensor(np.array([self.known[t] for t in texts]), device=self.device).float()

    def rivals(self, text: str, index: SceneIndex, kind: str) -> torch.Tensor | None:
        """What competes with a text: nothing, nouns, or a closed list of labels."""
        if kind == "nouns":
            return rivals_of(self, text, index).to(self.device)
        return self.texts([t for t in LABELS if not within(t, text)]) if kind == "listed" else None

    # What `rivals_of` asks of an encoder that takes any text.

    def encoder(self) -> Words:
        return self

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.texts(texts)

    def embed(self, text: str) -> torch.Tensor:
        return self.texts([text])[0]

    def negatives(self) -> torch.Tensor:
        return self.texts(list(NEGATIVES))

    def image(self, label: str, seed: int) -> torch.Tensor:
        """The image feature of a thing called so in a picture of another scene: other looks, other errors."""
        dense = np.zeros((480, 640), bool)
        dense[:100, :60] = True
        rng = np.random.default_rng([seed, 99])
        if self.wild:
            encoder = WildEncoder(SceneTruth({1: label}, {}, {}, (), ()), self.meanings, WILD, seed + 1000)
            view = ViewTruth(np.zeros((480, 640, 3), np.uint8), dense.astype(int), dense * 0, dense + 1.0, ())
            row = encoder.describe([WildMask(dense, "whole", ((label, 1.0),), 1)], view, rng)[0]
        else:
            row = mild.image_features([Proposal(dense, ((1, 1.0),))], {1: label}, self.noise, seed + 1000, rng)[0]
        return torch.tensor(row, device=self.device).float()


def absent_labels(present: set[str], seed: int) -> tuple[list[str], list[str]]:
    """Labels of other scenes: of a kind that is here in another colour, and of kinds that are not."""
    rng = np.random.default_rng([seed, 98])
    every = [t for c in COLOURS for k in KINDS if (t := f"{c} {k}") not in present]
    here = {label.partition(" ")[2] for label in present}
    alike = [t for t in every if t.partition(" ")[2] in here]
    other = [t for t in every if t.partition(" ")[2] not in here]
    pick = lambda pool, n: [str(t) for t in rng.choice(pool, min(n, len(pool)), replace=False)] if pool else []  # noqa: E731
    few = pick(alike, ABSENT // 2)
    return few, pick(other, ABSENT - len(few))


@dataclass
class Trained:
    """A trained scene with what it was lifted from."""

    scene: Scene
    views: list
    masks: list[MaskSet]
    features: list[torch.Tensor]

    @staticmethod
    def read(config: Path, data: Path) -> Trained:
        scene = ag2_ns.open(config).as_trained()
        views, masks, features = [], [], []
        for named in scene.views:
            path = data / "masks_sparse" / f"{view_stem(named.name)}.pt"
            views.append(named.view)
            masks.append(MaskSet.from_dense(torch.load(path, weights_only=True).to_dense().bool()).to(scene.device))
            features.append(torch.load(data / "clip_features" / path.name, weights_only=True).float())
        return Trained(scene, views, masks, features)

    def tiled(self, count: int) -> Trained:
        """The same with its Gaussians repeated until there are `count`."""
        scene = self.scene
        if count <= len(scene.gaussians):
            return self
        place = torch.arange(count, device=scene.device) % len(scene.gaussians)
        index = replace(scene.index, gaussian_anchor=scene.index.gaussian_anchor[place])
        return replace(self, scene=replace(scene, gaussians=scene.gaussians[place], index=index))

    def field(self, unit: torch.Tensor | None, config: InstanceFieldConfig) -> torch.Tensor:
        """Instance features of units."""
        count = len(self.scene.gaussians) if unit is None else self.scene.index.num_anchors
        return train_instance_field(
            self.scene.gaussians, self.views, self.masks.__getitem__, self.scene.rasterizer, config, unit=unit,
            num_units=count,
        )  # fmt: skip

    def language(self, instance: torch.Tensor, unit, config: LanguageFieldConfig) -> LanguageField:
        """Regressed from them."""
        described = lambda i: SimpleNamespace(masks=self.masks[i], features=self.features[i])  # noqa: E731
        pairs = collect_pairs(self.scene.gaussians, self.views, described, self.scene.rasterizer, instance, unit)
        language = regress(instance, pairs, config)
        index = self.scene.index
        xyz = self.scene.gaussians.means if unit is None else index.anchor_xyz
        language = smooth(language, config.smoothing, xyz, None if unit is None else index.edges)
        return LanguageField(instance.half(), language, pairs.spread, unit is None)


Ask = Callable[[str, torch.Tensor, torch.Tensor | None, bool], Selection]
"""Label, its vector, negatives (None: a picture), whether several things are meant."""


@dataclass(frozen=True)
class Way:
    """A way to answer."""

    name: str
    ask: Ask
    seconds: float
    """That its field took."""
    others: dict[str, Ask] = field(default_factory=dict)
    """The same with other words as rivals, by their kind."""


def by_field(scene: Scene, language: LanguageField, chosen: Callable) -> Ask:
    """What a rule over units selects; something always answers."""

    def ask(label, vector, negatives, several):
        said = ask_field(language, scene.index, scene.gaussians, vector, negatives)
        return select_units(language, scene.index, said, chosen(said), label)

    return ask


def faithful(scene: Scene, language: LanguageField) -> dict[str, Ask]:
    """COS3D's answer, and each of its two branches alone."""

    def around_best(said):
        unit = language.direction
        best = int(torch.where(said.opacity > 0.1, torch.nan_to_num(said.relevancy), -1.0).argmax())
        return unit @ unit[best] > 1 - 0.4 * language.spread

    return {
        "": by_field(scene, language, lambda said: refined(language, said)),
        "language alone": by_field(scene, language, lambda said: stretched(said.relevancy) > 0.5),
        "instance alone": by_field(scene, language, around_best),
    }


FLOORS = {"": DEFAULTS.floor, "nouns": DEFAULTS.clear, "listed": 0.0}
"""Of texts without rivals, and with them."""


def ours(scene: Scene, language: LanguageField | None, strategy: Strategy, words: Words, took: float = 0.0) -> Way:
    """As `ag2 query --strategy` answers."""
    common = {"strategy": strategy, "field": language, "gaussians": scene.gaussians}
    open_ended = replace(DEFAULTS, present=DEFAULTS.present_open, pieces=True)

    def by(kind: str) -> Ask:
        def ask(label, vector, negatives, several):
            if negatives is None:
                texts = words.texts(LABELS)
                found = select_picture(scene.index, label, vector, texts, floor=DEFAULTS.image_floor, **common)
                return found.selection
            return select_vector(
                scene.index, label, vector, negatives, floor=FLOORS[kind], several=several,
                rivals=words.rivals(label, scene.index, kind), config=open_ended if kind == "nouns" else DEFAULTS,
                **common,
            ).selection  # fmt: skip

        return ask

    return Way(strategy, by(""), took, {kind: by(kind) for kind in ("nouns", "listed")})


@dataclass
class Benchmark:
    """Ways to ask a scene by vectors."""

    output: Path
    """Worlds, runs and rows go here; what is there is not made again."""
    worlds: tuple[str, ...] = ("tabletop:14:1",)
    """tabletop:OBJECTS:NOISE or wild:OBJECTS."""
    seeds: tuple[int, ...] = (200,)
    views: int = 60
    width: int = 320
    splat: Method = "ag2aussian-small"
    steps: int = 2000
    """Of the instance field on anchors."""
    published_steps: int = 3000
    """Of that on Gaussians (published: 30,000, which the paper puts 0.6 points above 3,000)."""
    ways: tuple[str, ...] = ()
    """Only these rows."""
    processes: int = 1
    """Worlds worked on at once."""
    minutes: float = 0.0
    """After which no more is begun and what runs is ended; 0 for no limit."""
    tile: int = 0
    """Repeat Gaussians until there are so many, to time queries of a large scene."""
    rows: str = "rows"
    """Folder of the rows within the output."""
    tables: bool = True
    """Print the table at the end."""
    scores: bool = False
    """Also keep the relevancy of the best node for every prompt, to choose the floor by."""

    def main(self) -> None:
        """Make, ask, print."""
        self.output = self.output.resolve()
        jobs = [(world, seed) for world in self.worlds for seed in self.seeds]
        if self.processes > 1:
            same = ["--output", self.output, "--views", self.views, "--width", self.width, "--splat", self.splat,
                    "--steps", self.steps, "--published-steps", self.published_steps, "--tile", self.tile,
                    "--rows", self.rows, "--no-tables"]  # fmt: skip
            same += [*(["--ways", *self.ways] if self.ways else []), *(["--scores"] if self.scores else [])]
            at_once([[*same, "--worlds", w, "--seeds", s] for w, s in jobs], self.processes, self.minutes)
        else:
            for world, seed in jobs:
                self.one(world, seed)
        if self.tables:
            self.show()

    def one(self, world: str, seed: int) -> None:
        """All ways on one scene."""
        path = self.output / self.rows / f"{world.replace(':', '_')}_{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        making = Making(self.output, self.views, self.width, self.width * 3 // 4, self.splat)
        start = time.perf_counter()
        config, data = making.run(world, seed), making.data(world, seed)
        trained = Trained.read(config, data).tiled(self.tile)
        words, rows = Words(world, str(trained.scene.device)), []
        for way in self.each(trained, words):
            row = measure(trained.scene, data, way, words, seed)
            rows.append({"world": world, "seed": seed, "way": way.name, "field s": way.seconds, **row})
            path.write_text(json.dumps(rows, indent=1))
            figures = {k: round(v, 3) for k, v in row.items() if isinstance(v, float)}
            print(f"{time.perf_counter() - start:.0f} s:", world, seed, way.name, figures, row["wrong"], flush=True)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
        if self.scores:
            found = best_scores(trained.scene, data, words, seed)
            path.with_suffix(".scores").write_text(json.dumps(found))

    def each(self, trained: Trained, words: Words) -> Iterator[Way]:
        """Every way to answer."""
        scene, asked = trained.scene, lambda name: not self.ways or name in self.ways
        preset = scene.language_field
        if preset is not None and preset.per_gaussian and len(preset) == len(scene.gaussians) and asked("preset"):
            yield Way("preset", faithful(scene, preset)[""], 0.0)
            yield replace(ours(scene, preset, "collaborative", words), name="preset, floor")
        if asked("tree"):
            yield ours(scene, None, "tree", words)
        if asked("collaborative") or asked("both"):
            start, anchor = time.perf_counter(), scene.index.gaussian_anchor
            instance = trained.field(anchor, field_config(self.steps).instance)
            language = trained.language(instance, anchor, LanguageFieldConfig())
            took = time.perf_counter() - start
            for name in ("collaborative", "both"):
                if asked(name):
                    yield ours(scene, language, name, words, took)
        published = LanguageFieldConfig(units="gaussian", kernel=KernelConfig("published"), smoothing="nearest")
        kinds = {
            "published kernel": published,
            "paper's kernel": replace(published, kernel=KernelConfig("paper")),
            "MLP": replace(published, regression="mlp", mlp=MlpConfig()),
        }
        if not any(asked(n) for n in (*kinds, "language alone", "instance alone")):
            return
        start = time.perf_counter()
        instance = trained.field(None, replace(field_config(self.published_steps).instance, loss=PUBLISHED))
        took = time.perf_counter() - start
        for name, kind in kinds.items():
            if not asked(name) and (
                name != "published kernel" or not (asked("language alone") or asked("instance alone"))
            ):
                continue
            start = time.perf_counter()
            language = trained.language(instance, None, kind)
            also = time.perf_counter() - start
            for branch, ask in faithful(scene, language).items():
                if (not branch or name == "published kernel") and asked(branch or name):
                    yield Way(branch or name, ask, took + also)

    def show(self) -> None:
        """The table of all rows that are there."""
        rows: dict[tuple, list[dict]] = defaultdict(list)
        for path in sorted((self.output / self.rows).glob("*.json")):
            for row in json.loads(path.read_text()):
                rows[row["world"], row["way"]].append(row)
        table = Table(title="Means over seeds ± deviation; 'absent': share of absent prompts that select something")
        for head in ("world", "way", "seeds", *HEADS):
            table.add_column(head, justify="right")
        last = None
        for world, way in rows:
            if last not in (None, world):
                table.add_section()
            last, mine = world, rows[world, way]
            cells = [[r[h] for r in mine if h in r] for h in HEADS]
            texts = (f"{np.mean(c):.3f}±{np.std(c):.3f}" if c else "" for c in cells)
            table.add_row(world, way, str(len(mine)), *texts)
        Console(width=300).print(table)


@torch.no_grad()
def measure(scene: Scene, data: Path, way: Way, words: Words, seed: int) -> dict[str, Any]:
    """Quality of one way on one scene."""
    ask = way.ask
    benchmark = read_benchmark(data / "ground_truth").named_like(scene.names_of)
    matched = match_views(benchmark, [(v.name, v.view) for v in scene.views])
    vectors = dict(zip(benchmark.prompts, words.texts(list(benchmark.prompts))))
    negatives, device = words.negatives(), scene.device
    ask("warm up", next(iter(vectors.values())), negatives, False)
    texts, times = {}, []
    for text, vector in vectors.items():
        start = now(device)
        texts[text] = ask(text, vector, negatives, text in benchmark.several)
        times.append(now(device) - start)
    single = [t for t in benchmark.prompts if t != "table" and t not in benchmark.several]
    images = {t: ask(t, words.image(t, seed), None, False) for t in single}
    alike, other = absent_labels(set(benchmark.prompts), seed)
    wrong = [not ask(t, v, negatives, False).empty for t, v in zip(alike + other, words.texts(alike + other))]
    common = (matched, scene.rasterizer)
    report = evaluate_masks(scene.gaussians, texts, benchmark, *common).as_dict()
    text = report["mean_over_prompts"]
    found = {"wrong": {p["label"]: round(p["miou"], 3) for p in report["prompts"] if p["miou"] < 0.5}}
    for kind, other_ask in way.others.items():
        there = {t: other_ask(t, v, negatives, t in benchmark.several) for t, v in vectors.items()}
        found[f"kept {kind}"] = float(np.mean([not s.empty for s in there.values()]))
        gone = zip(alike + other, words.texts(alike + other))
        found[f"absent {kind}"] = float(np.mean([not other_ask(t, v, negatives, False).empty for t, v in gone]))
        if kind == "listed":
            means = evaluate_masks(scene.gaussians, there, benchmark, *common).as_dict()["mean_over_prompts"]
            found["listed mIoU"] = means["miou"]
    read = lambda frame: {t: m for t, m in benchmark.masks(frame).items() if t in images}  # noqa: E731
    only = replace(benchmark, prompts=tuple(single), read=read)
    image = evaluate_masks(scene.gaussians, images, only, *common).as_dict()["mean_over_prompts"]
    return {
        "text mIoU": text["miou"],
        "Acc@.5": text["acc50"],
        "kept": float(np.mean([not s.empty for s in texts.values()])),
        "image mIoU": image["miou"],
        "image Acc": image["acc50"],
        "absent": float(np.mean(wrong)),
        "absent kind": float(np.mean(wrong[len(alike) :])) if other else float("nan"),
        **found,
        "ms/text": 1000 * float(np.median(times)),
        "Gaussians": len(scene.gaussians),
        "GB": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
    }


@torch.no_grad()
def best_scores(scene: Scene, data: Path, words: Words, seed: int) -> dict[str, list[float]]:
    """The relevancy of what the tree selects without a floor: for what is there, in another colour, of other kinds."""
    benchmark = read_benchmark(data / "ground_truth")
    negatives = words.negatives()
    alike, other = absent_labels(set(benchmark.prompts), seed)

    def best(texts: list[str], pictures: bool) -> list[float]:
        out = []
        for text, vector in zip(texts, words.texts(texts)):
            vector = words.image(text, seed) if pictures else vector
            answer = select_vector(scene.index, text, vector, None if pictures else negatives, floor=2.0, several=False)
            out.append(answer.candidates[0].score if answer.candidates else 0.0)
        return out

    sets = {"present": list(benchmark.prompts), "other colour": alike, "other kind": other}
    return {f"{k}, {'image' if p else 'text'}": best(t, p) for k, t in sets.items() for p in (False, True)}


def now(device: torch.device) -> float:
    """Seconds, with all work done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    tyro.cli(Benchmark).main()
