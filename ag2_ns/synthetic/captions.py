"""Simulated captions of example scenes: what a captioner would say of a view, with a captioner's errors.

At noise 1 a visible thing is missed with 30 %, called by a synonym with 20 %, and every view names 0.6 things that are
not there, on the average; all of it grows with the level. Smaller things are missed more often. (BLIP on crops of
nuScenes names about half of the annotated classes per picture, 3D-AVS table 5; a third of what it says is not there.)
Vectors of words come from the geometry of `tabletop.language`: a synonym lies at a cosine of about 0.92, like CLIP's
near synonyms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from ag2_ns.core.errors import UserError
from ag2_ns.synthetic.tabletop import language
from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS, COLOURS, KINDS
from ag2_ns.synthetic.wild.language import Meanings

MISSED, RENAMED, HALLUCINATED = 0.30, 0.20, 0.6
"""At noise 1: share of visible things not named, share called by a synonym, and things named that are not there."""

LEAST_SHARE = 0.0015
"""Share of the picture below which nobody names a thing."""

CLOSE = 0.73
"""Cosine of a synonym's meaning to its word's: in text vectors 0.70 + 0.30 x 0.73 = 0.92."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "mug": ("cup", "coffee cup"), "book": ("volume", "hardcover"), "plate": ("dish", "saucer"), "chair": ("seat",),
    "lamp": ("light", "desk lamp"), "snowman": ("snow figure",), "block tower": ("tower", "building block"),
    "open book": ("open notebook",), "bottle": ("flask",), "alarm clock": ("clock",), "toy car": ("model car",),
    "mushroom": ("toadstool",), "dumbbell": ("weight",), "ball pyramid": ("pile of balls",), "bowl": ("basin",),
    "flowerpot": ("planter", "potted plant"), "house": ("cottage", "dollhouse"), "rubber duck": ("duck", "bath toy"),
    "candle": ("taper",), "teapot": ("kettle",), "robot": ("toy robot",), "gift box": ("gift", "present"),
    "ring stack": ("stacking ring",), "apple": ("fruit",), "rocket": ("spaceship",), "pencil cup": ("pencil holder",),
    "table": ("desk", "tabletop"), "wooden table": ("desk", "tabletop"), "car": ("automobile", "sedan"),
    "truck": ("lorry",), "pedestrian": ("person", "walker"), "person": ("pedestrian", "human"), "tree": ("foliage",),
    "building": ("house front", "facade"), "road": ("street", "asphalt"), "sidewalk": ("pavement",),
    "bicycle": ("bike",), "motorcycle": ("motorbike",), "bus": ("coach",), "pole": ("post",), "barrier": ("barricade",),
    "vegetation": ("bush", "shrub"), "grass": ("lawn", "meadow"), "terrain": ("grassland",), "fence": ("railing",),
    "traffic cone": ("cone",), "traffic sign": ("signboard",),
}  # fmt: skip
"""Other words for a kind."""

ABSENT = (
    "sofa", "curtain", "umbrella", "dog", "cat", "pizza", "laptop", "keyboard", "backpack", "skateboard", "guitar",
    "sandwich", "vase", "scissors", "banana", "knife", "shoe", "mirror", "boat", "horse", "kite", "zebra", "fountain",
)  # fmt: skip
"""Things that captioners see where they are not."""


def kind_of(label: str) -> str:
    """A label without its colour ("red mug": "mug")."""
    colour, _, kind = label.partition(" ")
    return kind if kind and colour in COLOURS else label


def same_thing(word: str, label: str) -> bool:
    """Whether a word names what a label does: the label, its kind, or a synonym of either, with or without colour."""
    names = {label, kind_of(label)}
    names |= {s for name in tuple(names) for s in SYNONYMS.get(name, ())}
    return word in names or kind_of(word) in names


class SimulatedTagger:
    """Words for the views of an example scene, from its ground truth and with a captioner's errors.

    Args:
        ground_truth: folder with `ids/*.png` and `labels.json`, or the scene's.
        noise: level of the errors: 0 none, 1 as a captioner, 2 twice as bad.
        seed: of the errors; a view's are the same whatever views are asked before.
        colours: name colours too ("red mug").
    """

    def __init__(self, ground_truth: Path | str, noise: float = 1.0, seed: int = 0, colours: bool = False):
        folder = Path(ground_truth)
        self.folder = folder / "ground_truth" if (folder / "ground_truth").is_dir() else folder
        try:
            labels = json.loads((self.folder / "labels.json").read_text(encoding="utf-8"))
            self.labels = {int(k): str(v) for k, v in labels.items()}
        except (OSError, ValueError, AttributeError):
            raise UserError(
                f"{ground_truth}: no ground truth (labels.json, ids/) there; simulated captions are for example scenes"
            ) from None
        self.noise, self.seed, self.colours = noise, seed, colours
        self.name = "simulated"
        self.settings = {"noise": noise, "seed": seed, "colours": colours}

    def tag(self, image: np.ndarray, image_name: str, masks: object = None, features: object = None):
        """Words for one view, each with weight 1."""
        stem = Path(image_name).with_suffix("").as_posix()
        path = self.folder / "ids" / f"{stem}.png"
        if not path.is_file():
            path = self.folder / "ids" / f"{Path(stem).name}.png"
        try:
            with Image.open(path) as file:
                ids = np.asarray(file)
        except OSError:
            raise UserError(f"{path}: no ids of this view; simulated captions are for example scenes") from None
        salt = int.from_bytes(hashlib.sha256(Path(stem).name.encode()).digest()[:4], "little")
        return [(w, 1.0) for w in self.words(ids, np.random.default_rng([self.seed, 11, salt]))]

    def vectors(self, words: Iterable[str]) -> Float[np.ndarray, "T 512"]:
        """Vectors of words in the space of the scene's features."""
        try:
            options = json.loads((self.folder / "scene.json").read_text(encoding="utf-8"))["options"]
        except (OSError, ValueError, KeyError):
            options = {}
        kinds = {kind_of(label) for label in self.labels.values()} | {*ALL_KINDS}
        wild = Meanings(kinds) if options.get("noise") == "wild" else None
        return np.array(list(word_vectors(words, wild).values()), np.float32)

    def words(self, ids: np.ndarray, rng: np.random.Generator) -> list[str]:
        """What is said of a picture of ids."""
        return simulated_words(ids, self.labels, self.noise, rng, self.colours)


def simulated_words(
    ids: np.ndarray, labels: dict[int, str], noise: float, rng: np.random.Generator, colours: bool = False
) -> list[str]:
    """Words for what an image of ids (0 for nothing) shows; see the module for the errors."""
    found: list[str] = []
    present, count = np.unique(ids, return_counts=True)
    for number, pixels in zip(present.tolist(), count.tolist()):
        share = pixels / ids.size
        if number not in labels or share < LEAST_SHARE:
            continue
        missed = min(0.95, MISSED * noise * (1.5 if share < 0.01 else 1.0))
        other = rng.random(2)
        if other[0] < missed:
            continue
        label = labels[number]
        word = label if colours else kind_of(label)
        synonyms = SYNONYMS.get(kind_of(label), ())
        if synonyms and other[1] < RENAMED * noise:
            word = synonyms[rng.integers(len(synonyms))]
        found.append(word)
    shown = {kind_of(label) for label in labels.values()}
    elsewhere = [k for k in (*KINDS, *ABSENT) if k not in shown]
    for _ in range(rng.poisson(HALLUCINATED * noise)):
        found.append(elsewhere[rng.integers(len(elsewhere))])
    return list(dict.fromkeys(found))


def word_vectors(words: Iterable[str], wild: Meanings | None = None) -> dict[str, Float[np.ndarray, " 512"]]:
    """Vectors of words in the space of the example scenes: synonyms lie near the word that they stand for.

    Args:
        words: texts.
        wild: the meanings of a wild scene, which lie in a space of their own.
    """
    base = {synonym: word for word, synonyms in SYNONYMS.items() for synonym in synonyms}
    mean = language.meaning if wild is None else wild
    out = {}
    for word in words:
        colour, _, rest = word.partition(" ")
        kind = rest if colour in COLOURS and rest else word
        u = mean(word)
        if kind in base and kind not in KINDS:
            stem = f"{colour} {base[kind]}" if kind != word else base[kind]
            near = mean(stem)
            away = u - (u @ near) * near
            u = CLOSE * near + np.sqrt(1 - CLOSE**2) * away / np.linalg.norm(away)
        out[word] = language.text_vector(u, word in language.NEGATIVES) if wild is None else wild.vector(u)
    return out


def write_captions(path: Path, views: Sequence[str], tagger: SimulatedTagger) -> None:
    """What the tagger says of every view as a file of captions ("a mug, a plate and a lamp")."""
    from ag2_ns.io.atomic import write_atomic

    content = {view: "a photo of " + " and ".join(f"a {w}" for w, _ in tagger.tag(None, view)) for view in views}
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())
