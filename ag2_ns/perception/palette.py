"""Colour words as a language: the encoder that needs no weights.

It answers "the red mug" with what is red. Colours are named as people name them: the XKCD survey (949 names) and the
CSS names, both as shipped by matplotlib, compared in CIELAB.

A vector has two blocks, each of its own fixed length, side by side:

1. *Basic terms* (weight `BASIC_WEIGHT`): how much of the mask an English speaker would call red, orange, yellow,
   green, blue, purple, pink, brown, black, white, grey. A pixel's share in a term follows from its distance to the
   nearest survey colour whose name ends in that term (softmax over terms).
2. *Shade* (the rest): a soft histogram over a coarse CIELAB lattice, which tells teal from green and dark red from red.

A text that names basic terms only ("red and white") fills block 1 and leaves block 2 empty; a shade ("teal",
"dark red", "bright green") goes through the same map as a pixel of that colour; "dark", "light" and "bright" without a
colour fill block 2 with all shades that are so. Words that name no colour are ignored; a text without colour words
gives the zero vector, and `known_words` is empty for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from torch import Tensor

from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.encoder import register_encoder
from ag2_ns.perception.english import DETERMINERS, LINKS, words_of

BASIC = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
"""The eleven basic colour terms of English (Berlin and Kay, 1969)."""

BASIC_WEIGHT = 0.85
"""Length of the basic block in a vector of length one."""

SHADE_NAME_BASIC_WEIGHT = 0.4
"""Length of the basic block for a text that names a shade: there the lightness counts for more."""

TERM_SOFTNESS = 4.0
"""CIELAB distance over which a pixel is shared between neighbouring terms."""

LATTICE_STEP = 20.0
"""Spacing of the shade lattice, in CIELAB units."""

LATTICE_SIGMA = 16.0
"""Width of a pixel's footprint on the shade lattice, in CIELAB units."""

BITS = 5
"""Bits per channel at which pixels are looked up."""

SYNONYMS = {
    "gray": "grey",
    "violet": "purple",
    "lilac": "light purple",
    "scarlet": "red",
    "crimson": "red",
    "golden": "gold",
    "silvery": "silver",
    "turquoise": "turquoise",
    "whitish": "off white",
    "blackish": "black",
    "ebony": "black",
    "ivory": "ivory",
    "blond": "sandy yellow",
    "blonde": "sandy yellow",
}
"""Words that stand for another name."""

FAMILIES = {
    "red": ("maroon", "burgundy", "crimson", "wine", "scarlet", "ruby", "claret", "wine red", "dried blood"),
    "blue": ("navy", "azure", "cobalt", "indigo", "denim", "cerulean", "sapphire"),
    "green": ("olive", "lime", "emerald", "jade", "moss", "forest", "hunter green", "avocado"),
    "purple": ("violet", "lilac", "lavender", "plum", "eggplant", "aubergine", "mauve"),
    "brown": ("chocolate", "chestnut", "coffee", "sepia", "umber", "tan", "caramel"),
    "grey": ("charcoal", "slate", "silver"),
    "yellow": ("gold", "lemon", "banana", "canary"),
    "white": ("off white",),
}
"""Survey names without a basic term that plainly belong to one."""

MODIFIERS = {
    "dark": (-22.0, 0.9),
    "deep": (-15.0, 1.1),
    "light": (22.0, 0.8),
    "pale": (22.0, 0.5),
    "bright": (10.0, 1.35),
    "vivid": (5.0, 1.35),
    "dull": (0.0, 0.55),
}
"""Change of lightness, and factor on chroma, of a colour whose compound is not in the vocabularies."""

FURTHER = {"dark": (0.0, -8.0, -16.0), "deep": (0.0, -8.0), "light": (0.0, 6.0, 12.0), "pale": (0.0, 6.0, 12.0)}
"""Steps of lightness beyond the named colour that still answer: what is darker than dark red is dark red, too."""

NOT_COLOURS = frozenset(
    re.findall(
        r"\w+",
        """ice stone wood dirt earth cement water sand clay bruise baby bland heather swamp sea sky sun night dusk
        twilight spruce fern leaf grass hospital toxic terra cool warm very dust bile faded hot ocean
        algae mud mushroom ugly""",
    )
)
"""Survey names of one word that name things or qualities rather than colours when they stand alone in a query."""


@register_encoder("palette")
class PaletteEncoder:
    """Colour names as vectors; see the module."""

    knows = f"known: {', '.join(BASIC)} and shades such as teal or dark red (things need `ag2 prepare` with CLIP)"
    """What can be asked for, in a message."""
    process_bytes = 1 << 28
    """All work is done on the CPU, and several processes may share it: memory that each takes beside its images."""

    def __init__(self):
        self.dim = _space().lattice.shape[0] + len(BASIC)
        self.settings = {"version": 1, "dim": self.dim}
        self.options: dict = {}

    def encode_image(self, image: np.ndarray, masks: MaskSet, image_name: str = "") -> Float[Tensor, "M D"]:
        """One colour vector per mask, from all of its pixels; zero for an empty mask."""
        codes = color_codes(image.reshape(-1, image.shape[-1]))
        used, place = np.unique(codes, return_inverse=True)
        cell = masks.mask.cpu().numpy() * len(used) + place.reshape(-1)[masks.pixel.cpu().numpy()]
        counts = np.bincount(cell, minlength=len(masks) * len(used)).reshape(len(masks), len(used)).astype(np.float32)
        basic, shade = basic_table()[used], shade_table()[used]
        return torch.from_numpy(join_blocks(counts @ basic, counts @ shade).astype(np.float32))

    def encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        """One vector per text; zero where the text names no colour."""
        rows = [_text_vector(text) for text in texts]
        return torch.from_numpy(np.stack(rows).astype(np.float32)) if rows else torch.zeros(0, self.dim)

    def known_words(self, text: str) -> list[str]:
        """The colour names that were understood in a text; empty when there is none."""
        return [name for name, _ in _parse(text)]

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that make no difference, articles and the like aside."""
        known = {word for name in self.known_words(text) for word in name.split()} | DETERMINERS | LINKS | {"and", "or"}
        return [word for word in words_of(text) if not set(_spell(word).split() or [word]) <= known]


def basic_shares(rgb: UInt8[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 11"]:
    """How far an English speaker would use each of the `BASIC` terms for each colour; rows sum to 1."""
    return basic_table()[color_codes(rgb)]


def colour_terms(name: str) -> Float[np.ndarray, " 11"]:
    """How far an English speaker would use each of the `BASIC` terms for a named colour; the largest is 1."""
    basic = _text_vector(name)[: len(BASIC)]
    found = _parse(name)
    if not basic.any() and found and found[0][1] is None:  # dark, light, bright on their own
        lightness = {"dark": (8,), "light": (9,), "bright": (9, 2)}[found[0][0]]
        basic = np.isin(np.arange(len(BASIC)), lightness).astype(float)
    return basic / max(float(basic.max()), 1e-9)


@lru_cache(maxsize=4096)
def colour_likeness(asked: str, named: str) -> float:
    """How far one colour word means another, 0 to 1: gray is grey, crimson is red, pink is not."""
    if _spell(asked) == _spell(named):
        return 1.0
    if _spell(asked) in BASIC and _spell(named) in BASIC:
        return 0.0
    a, b = _named_lab(asked), _named_lab(named)
    if a is None or b is None:
        return 0.0
    if _spell(named) in BASIC or _spell(asked) in BASIC:
        basic, other = (asked, b) if _spell(asked) in BASIC else (named, a)
        share = _space().basic(other[None])[0][BASIC.index(_spell(basic))]
        return 0.85 * float(np.clip((share - 0.5) / 0.4, 0, 1))
    return float(np.clip(1.4 - np.linalg.norm(a - b) / 25, 0, 0.85))


def _named_lab(name: str) -> np.ndarray | None:
    found = [lab for _, lab in _parse(name) if lab is not None]
    return found[0] if found else None


def is_colour_name(word: str) -> bool:
    """Whether one word names a colour before it names anything else ("red", "teal"; not "stone" or "banana")."""
    name = _spell(word)
    space = _space()
    if not name or name in NOT_COLOURS:
        return False
    return name in BASIC or name in space.css or name in SYNONYMS.values() or name in _PLAIN_SHADES


_PLAIN_SHADES = frozenset(
    [
        "teal",
        "mauve",
        "maroon",
        "burgundy",
        "crimson",
        "scarlet",
        "navy",
        "turquoise",
        "cyan",
        "magenta",
        "beige",
        "lilac",
    ]
)
"""Survey names of one word that are used for nothing else."""


class _Space:
    """Names with their CIELAB colours, labelled prototypes of the basic terms, and the shade lattice."""

    def __init__(self):
        from matplotlib.colors import CSS4_COLORS, XKCD_COLORS, to_rgb

        names = {name: to_rgb(value) for name, value in CSS4_COLORS.items()}
        survey = {name.removeprefix("xkcd:").replace("/", " "): to_rgb(value) for name, value in XKCD_COLORS.items()}
        names.update(survey)
        lab = _rgb_to_lab(np.array(list(names.values())))
        self.names = {_spell(name): value for name, value in zip(names, lab)}
        self.css = frozenset(_spell(name) for name in CSS4_COLORS)
        family = {name: term for term, names_of in FAMILIES.items() for name in names_of}
        terms, prototypes = [], []
        for name in survey:
            last = family.get(_spell(name), _spell(name).split()[-1])
            if last in BASIC:
                terms.append(BASIC.index(last))
                prototypes.append(self.names[_spell(name)])
        # The survey has no greys between its few; without these a neutral mid-tone would fall to a tinted neighbour.
        for lightness in range(30, 80, 5):
            terms.append(BASIC.index("grey"))
            prototypes.append(np.array([lightness, 0.0, 0.0]))
        for lightness in (0, 5, 10, 15):
            terms.append(BASIC.index("black"))
            prototypes.append(np.array([lightness, 0.0, 0.0]))
        for lightness in (84, 88, 92, 96, 100):
            terms.append(BASIC.index("white"))
            prototypes.append(np.array([lightness, 0.0, 0.0]))
        prototypes = np.stack(prototypes)
        self.trees = [cKDTree(prototypes[np.array(terms) == term]) for term in range(len(BASIC))]
        axis = np.arange(0, 256, 15) / 255
        gamut = _rgb_to_lab(np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3))
        self.lattice = np.unique(np.round(gamut / LATTICE_STEP), axis=0) * LATTICE_STEP

    def basic(self, lab: np.ndarray) -> np.ndarray:
        """Share of each basic term in each colour, [n, 11]."""
        nearest = np.stack([tree.query(lab)[0] for tree in self.trees], 1)
        weight = np.exp(-(nearest - nearest.min(1, keepdims=True)) / TERM_SOFTNESS)
        return weight / weight.sum(1, keepdims=True)

    def shade(self, lab: np.ndarray) -> np.ndarray:
        """Footprint of each colour on the lattice, [n, K]."""
        squared = cdist(lab, self.lattice, "sqeuclidean")
        weight = np.exp(-(squared - squared.min(1, keepdims=True)) / (2 * LATTICE_SIGMA**2))
        return weight / weight.sum(1, keepdims=True)


@lru_cache(maxsize=1)
def _space() -> _Space:
    return _Space()


def _table(of: Callable[[np.ndarray], np.ndarray]) -> Float[np.ndarray, "32768 K"]:
    level = ((np.arange(1 << BITS) + 0.5) * (256 >> BITS)) / 255
    rgb = np.stack(np.meshgrid(level, level, level, indexing="ij"), -1).reshape(-1, 3)
    return np.concatenate([of(block) for block in np.split(_rgb_to_lab(rgb), 8)]).astype(np.float32)


@lru_cache(maxsize=1)
def basic_table() -> Float[np.ndarray, "32768 11"]:
    """Shares of the basic terms in every quantised colour."""
    return _table(_space().basic)


@lru_cache(maxsize=1)
def shade_table() -> Float[np.ndarray, "32768 K"]:
    """Footprint of every quantised colour on the lattice."""
    return _table(_space().shade)


def color_codes(rgb: np.ndarray) -> np.ndarray:
    """Index of each uint8 colour [n, 3] in the lookup."""
    high = (rgb >> (8 - BITS)).astype(np.int32)
    return (high[:, 0] << 2 * BITS) | (high[:, 1] << BITS) | high[:, 2]


def join_blocks(basic: np.ndarray, shade: np.ndarray, weight: float = BASIC_WEIGHT) -> np.ndarray:
    """Both blocks side by side, the first of length `weight`; rows have length one, and zero rows stay zero."""
    return _unit(np.concatenate([weight * _unit(basic), np.sqrt(1 - weight**2) * _unit(shade)], axis=1))


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _text_vector(text: str) -> np.ndarray:
    """The unit vector of one text."""
    space = _space()
    basic, shade = np.zeros(len(BASIC)), np.zeros(len(space.lattice))
    for name, lab in _parse(text):
        if name in BASIC:
            basic[BASIC.index(name)] += 1
        elif lab is None:
            lightness, chroma = space.lattice[:, 0], np.linalg.norm(space.lattice[:, 1:], axis=1)
            inside = {"dark": lightness <= 30, "light": lightness >= 75, "bright": (lightness >= 60) & (chroma >= 35)}
            shade += inside[name] / inside[name].sum()
        else:
            basic += _unit(space.basic(lab[None]))[0]
            further = lab + np.outer(FURTHER.get(name.split()[0], (0.0,)), (1, 0, 0))
            shade += _unit(space.shade(further)).mean(0)
    return join_blocks(basic[None], shade[None], SHADE_NAME_BASIC_WEIGHT)[0]


def _parse(text: str) -> list[tuple[str, np.ndarray | None]]:
    """The colour names in a text, longest first at every word, with their CIELAB colours.

    The colour is None for "dark", "light" and "bright" on their own. Where a basic term or a CSS name is present, other
    survey names are taken for things ("the green banana", "the red brick").
    """
    space = _space()
    words = _spell(text).split()
    found: list[tuple[str, np.ndarray | None]] = []
    at = 0
    while at < len(words):
        for size in (4, 3, 2, 1):
            name = " ".join(words[at : at + size])
            if at + size > len(words) or (size == 1 and name in NOT_COLOURS):
                continue
            if name in space.names:
                found.append((name, space.names[name]))
                break
            head, _, rest = name.partition(" ")
            if head in MODIFIERS and rest in space.names and rest not in NOT_COLOURS:
                found.append((name, _modify(space.names[rest], *MODIFIERS[head])))
                break
            if name in ("dark", "light", "bright"):
                found.append((name, None))
                break
        else:
            at += 1
            continue
        at += size
    sure = [(n, c) for n, c in found if c is None or n in space.css or any(term in n.split() for term in BASIC)]
    return sure if any(c is not None for _, c in sure) else found


def _modify(lab: np.ndarray, lightness: float, chroma: float) -> np.ndarray:
    """A colour made lighter by `lightness` and stronger by the factor `chroma`."""
    return np.array([np.clip(lab[0] + lightness, 3, 97), lab[1] * chroma, lab[2] * chroma])


def _spell(text: str) -> str:
    """Lower case, words only, one spelling per word."""
    words = re.findall(r"[a-z]+", text.lower().replace("'s", ""))
    return " ".join(SYNONYMS.get(word, word) for word in words)


def _rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1, [n, 3], to CIELAB (D65)."""
    from skimage.color import rgb2lab

    return rgb2lab(np.asarray(rgb, np.float64))
