"""Simulated image-text embeddings with the geometry of CLIP's: 512 floats, unit length.

A text is sqrt(0.70) c + sqrt(0.30) u: c is common to all texts, u its meaning. For "<colour> <kind>" u is 0.75 kind +
0.50 colour + 0.43 phrase, normalised, each word a fixed vector of the meaning space (96 dimensions of falling
variance, drawn from a hash of the word, so a word means the same in every scene). Cosines: about 0.70 between unrelated
texts, 0.78 with the colour in common, 0.87 with the kind in common. (103 CLIP ViT-B texts of open-vocabulary 3D
benchmarks have a median of 0.57, 95 % below 0.73, and reach 0.85 to 0.92 for near synonyms.) The four canonical
negatives have 0.80 of c.

An image is 0.70 g + 0.239 c + 0.183 u + 0.65 n, normalised: g is common to all images (the modality gap) and n
appearance, orthogonal to every text. Cosines to texts: 0.30 for its label, 0.26 for the kind in another colour, 0.20
for an unrelated one, 0.21 for the negatives; between images 0.55. n is a vector of the object's own mixed with a fresh
one per mask, 0.45 x level of the latter (at most 0.95), and the meaning is off by 0.18 x level, x sqrt(2000 px / area)
for masks smaller than that at 640x480 (at most x 2.5). Pieces keep 0.65 of u and are off by 1.5 times as much. Masks
over several things mix their u and n by share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from ag2_ns.synthetic.tabletop.kinds import COLOURS
from ag2_ns.synthetic.tabletop.segmenter import Proposal

WIDTH = 512
NEGATIVES = ("object", "things", "stuff", "texture")

_MEANINGS, _DECAY = 96, 0.985
_TEXT_COMMON, _NEGATIVE_COMMON = 0.70, 0.80
_KIND, _COLOUR, _PHRASE = 0.75, 0.50, 0.43
_GAP, _IMAGE_COMMON, _IMAGE_MEANING, _APPEARANCE = 0.70, 0.239, 0.183, 0.65
_FRESH, _OFF, _PIECE, _PIECE_OFF = 0.45, 0.18, 0.65, 1.5
_AREA = 2000 / (640 * 480)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _frame() -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rows: text common, image common, then the meaning space; and the appearance space."""
    q = np.linalg.qr(np.random.default_rng(20250801).standard_normal((WIDTH, WIDTH)))[0].T
    return q[: 2 + _MEANINGS], q[2 + _MEANINGS :]


_AXES, _LOOKS = _frame()
_SPECTRUM = _DECAY ** np.arange(_MEANINGS)


def _draw(rng: np.random.Generator) -> np.ndarray:
    """A random unit vector of the meaning space."""
    return _unit(rng.standard_normal(_MEANINGS) * _SPECTRUM)


def _word(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return _draw(np.random.default_rng(seed))


def meaning(text: str) -> Float[np.ndarray, " 96"]:
    """Unit vector u of a text in the meaning space."""
    colour, _, kind = text.partition(" ")
    if colour in COLOURS and kind:
        return _unit(_KIND * _word(kind) + _COLOUR * _word(colour) + _PHRASE * _word(text))
    return _word(text)


def text_features(texts: Iterable[str]) -> dict[str, list[float]]:
    """Simulated text embeddings, text to 512 floats of unit length."""
    return {text: np.round(text_vector(meaning(text), text in NEGATIVES), 7).tolist() for text in texts}


def text_vector(u: Float[np.ndarray, " 96"], negative: bool = False) -> Float[np.ndarray, " 512"]:
    """Unit vector of a text with meaning u."""
    common = _NEGATIVE_COMMON if negative else _TEXT_COMMON
    return np.sqrt(common) * _AXES[0] + np.sqrt(1 - common) * u @ _AXES[2:]


def image_features(
    proposals: list[Proposal], labels: dict[int, str], level: float, seed: int, rng: np.random.Generator
) -> Float[np.ndarray, "M 512"]:
    """Simulated image embeddings of a view's masks.

    Args:
        proposals: the view's masks and what they show.
        labels: id to text.
        level: noise level, 0 for one fixed embedding per object.
        seed: the scene's seed, from which each object's own appearance is drawn.
        rng: source of the noise.
    """
    out = np.empty((len(proposals), WIDTH))
    fresh = min(_FRESH * level, 0.95)
    for row, p in enumerate(proposals):
        u, own = np.zeros(_MEANINGS), np.zeros(len(_LOOKS))
        for what, share in p.parts:
            text = labels[what] if isinstance(what, int) else what
            word = int.from_bytes(hashlib.sha256(str(what).encode()).digest()[:4], "little")
            u += share * meaning(text)
            own += share * _unit(np.random.default_rng([seed, 3, word]).standard_normal(len(_LOOKS)))
        strength = _IMAGE_MEANING * (1.0 if p.whole else _PIECE)
        small = float(np.clip(np.sqrt(_AREA * p.mask.size / max(1, np.count_nonzero(p.mask))), 1.0, 2.5))
        off = _OFF * level * small * (1.0 if p.whole else _PIECE_OFF)
        looks = np.sqrt(1 - fresh**2) * _unit(own) + fresh * _unit(rng.standard_normal(len(_LOOKS)))
        v = _IMAGE_COMMON * _AXES[0] + _GAP * _AXES[1]
        v = v + (strength * _unit(u) + off * _draw(rng)) @ _AXES[2:] + _APPEARANCE * _unit(looks) @ _LOOKS
        out[row] = _unit(v)
    return out
