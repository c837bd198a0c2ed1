"""Simulated image-text features of the street: for each patch of a picture, and for the words of the classes.

A text is sqrt(0.5) c + sqrt(0.5) u, unit length: c is common to all texts, u its meaning. Synonyms share 0.8 of their
class's meaning. A patch is 10 x the unit vector along 0.35 g + sum of share * (0.75 text + 0.25 own) + 0.12 x noise
level x n: g is common to all images, "own" the look of the object, n fresh for every patch. A softmax over dot products
with texts then means something without a temperature, as for Talk2DINO. Cosines of a pure patch: about 0.8 to its own
class, 0.5 to others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import numpy as np
from jaxtyping import Float, Int

from ag2_ns.io.occ3d import CLASSES
from ag2_ns.io.text_table import PROMPTS, SKY

WIDTH = 32
NORM = 10.0
_COMMON, _SYNONYM, _GAP, _OWN, _NOISE = 0.5, 0.8, 0.35, 0.25, 0.12


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _word(word: str, width: int) -> np.ndarray:
    """A fixed unit vector for a word, orthogonal to the two common directions."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    v = np.random.default_rng(seed).standard_normal(width)
    v[:2] = 0.0
    return _unit(v)


def text_features(width: int = WIDTH, kinds: Collection[int] = tuple(range(18))) -> dict[str, list[float]]:
    """A vector of `width` numbers, unit length, for every prompt of the classes `kinds`."""
    out = {}
    for prompt, kind in PROMPTS.items():
        if kind not in kinds:
            continue
        name = CLASSES[kind] if kind != SKY else "sky"
        meaning = _SYNONYM * _word(name, width) + (1 - _SYNONYM) * _word("prompt " + prompt, width)
        v = np.sqrt(1 - _COMMON) * _unit(meaning)
        v[0] += np.sqrt(_COMMON)
        out[prompt] = np.round(_unit(v), 6).tolist()
    return out


def class_texts(width: int = WIDTH) -> Float[np.ndarray, "18 C"]:
    """The text of each class (the mean over its synonyms); row 17 is the sky's, classes without prompt are 0."""
    texts = text_features(width)
    out = np.zeros((18, width))
    for prompt, kind in PROMPTS.items():
        out[kind] += texts[prompt]
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, length, out=out, where=length > 0)


def patch_features(
    body: Int[np.ndarray, "H W"],
    kinds: Int[np.ndarray, " B"],
    patch: int,
    seed: int,
    rng: np.random.Generator,
    noise: float = 1.0,
    width: int = WIDTH,
) -> Float[np.ndarray, "C h w"]:
    """Features of the patches of a picture; rows and columns that do not fill a patch are left out.

    Args:
        body: body at each pixel, -1 for the sky.
        kinds: class of each body.
        patch: pixels along an edge.
        seed: from which objects draw their own looks.
        rng: source of the noise.
        noise: 0 for none, 1 realistic.
        width: C.
    """
    rows, columns = body.shape[0] // patch, body.shape[1] // patch
    texts = class_texts(width)
    number = int(body.max()) + 1
    own = _unit(np.random.default_rng([seed, 21]).standard_normal((max(number, 0) + 1, width)))
    look = np.empty((number + 1, width))
    look[:number] = (1 - _OWN) * texts[np.asarray(kinds[:number], int)] + _OWN * own[:number]
    look[number] = (1 - _OWN) * texts[17] + _OWN * _word("the sky", width)  # body -1
    cells = body[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch)
    mean = look[cells].mean((1, 3))
    mean[..., 1] += _GAP
    mean = mean + _NOISE * noise * rng.standard_normal(mean.shape)
    return np.moveaxis(NORM * _unit(mean), -1, 0)
