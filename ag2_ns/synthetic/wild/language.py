"""A simulated encoder that confuses what CLIP confuses: 512 floats of unit length for texts and for crops.

Texts: sqrt(0.57) c + sqrt(0.43) u, c common to all and u the meaning (0.57 is the median cosine of two of 103 real
embeddings, see `cosines.py`). Meanings of words have the cosines of real ones (`cosines.gram`), others random ones.
A label "<colour> <kind>" is 0.73 kind + 0.65 colour + 0.22 phrase: labels of one kind then have a centred cosine of
0.53, of one colour of 0.42 (medians of red apple, green apple, red cup, dark cup, red and green toy chair: 0.53, 0.42).
A part's text is 0.6 label + 0.7 part + 0.4 phrase, a group's 0.6 members + 0.6 kind of group + 0.5 phrase: assumed, as
the table holds no such pairs.

Crops: 0.25 c + g + margin/0.656 u + noise + looks, scaled so that cosines with texts are those of CLIP ViT-B: 0.19 for
an unrelated text, 0.19 + `margin` for its own (0.28; CLIP on crops of real things: 0.25 to 0.30 against 0.15 to 0.25).
u mixes what the mask shows with what surrounds it in its box (0.3 a pixel). It is weaker for small crops (square root
of the area over 2000 px at 640x480, at least 0.45), for hidden things (by half of the share of the outline where
something nearer begins) and for pieces. Noise of the meaning: of each crop so that a cosine varies by 0.02, and of each
thing, the same in all views, by 0.008. Looks are orthogonal to all texts: a thing's own, half of them new in each view.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

import cv2
import numpy as np
from jaxtyping import Float

from ag2_ns.synthetic.tabletop.kinds import COLOURS
from ag2_ns.synthetic.wild.cosines import WORDS, gram
from ag2_ns.synthetic.wild.difficulty import Difficulty
from ag2_ns.synthetic.wild.masks import WildMask, window
from ag2_ns.synthetic.wild.truth import SceneTruth, ViewTruth

WIDTH = 512
NEGATIVES = ("object", "things", "stuff", "texture")

_MEANINGS = 96
_COMMON = 0.57
_KIND, _COLOUR, _PHRASE = 0.73, 0.65, 0.22
_IMAGE_COMMON = 0.19 / np.sqrt(_COMMON)
_CROP_NOISE, _THING_NOISE = 0.02, 0.008
_FRESH = 0.5
_CONTEXT, _AREA, _FAINTEST, _HIDDEN = 0.3, 2000 / (640 * 480), 0.45, 0.5
_PIECE = {"half": 0.7, "rest": 0.9, "pattern": 0.7, "light": 0.6}


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _seed(*what: object) -> list[int]:
    return [int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8], "little")]


_AXES = np.linalg.qr(np.random.default_rng(20261126).standard_normal((WIDTH, WIDTH)))[0].T
_TEXT_AXIS, _IMAGE_AXIS, _MEANING_AXES, _LOOKS = _AXES[0], _AXES[1], _AXES[2 : 2 + _MEANINGS], _AXES[2 + _MEANINGS :]


def _known() -> dict[str, np.ndarray]:
    """Vectors of the meaning space whose cosines are those measured."""
    basis = np.linalg.qr(np.random.default_rng(20261127).standard_normal((_MEANINGS, _MEANINGS)))[0][: len(WORDS)]
    rows = np.linalg.cholesky(gram()) @ basis
    return dict(zip(WORDS, rows))


_KNOWN = _known()


class Meanings:
    """The meaning of every text of a scene, as unit vectors.

    Args:
        kinds: words for kinds of things that labels may hold besides `WORDS`.
    """

    def __init__(self, kinds: Collection[str] = ()) -> None:
        self._kinds = sorted({*kinds, *WORDS}, key=len, reverse=True)
        self._cache: dict[str, np.ndarray] = {}

    def __call__(self, text: str) -> Float[np.ndarray, " 96"]:
        """The meaning of a text."""
        if text not in self._cache:
            self._cache[text] = self._meaning(text)
        return self._cache[text]

    def _word(self, word: str) -> np.ndarray:
        if word in _KNOWN:
            return _KNOWN[word]
        return _unit(np.random.default_rng(_seed("word", word)).standard_normal(_MEANINGS))

    def _meaning(self, text: str) -> np.ndarray:
        phrase = _unit(np.random.default_rng(_seed("phrase", text)).standard_normal(_MEANINGS))
        for joint in (" leaning on the ", " on the "):
            if joint in text:
                members = _unit(sum(self(part) for part in text.split(joint)))
                return _unit(0.6 * members + 0.6 * self._word(joint.strip()) + 0.5 * phrase)
        if text.startswith(("stack of ", "row of ", "set of ")):
            kind, _, members = text.partition(" of ")
            return _unit(0.6 * self._word(members.removesuffix("s")) + 0.6 * self._word(kind) + 0.5 * phrase)
        colour, _, rest = text.partition(" ")
        kind = next((k for k in self._kinds if rest == k or rest.startswith(k + " ")), None)
        if colour in COLOURS and kind is not None:
            name = np.random.default_rng(_seed("phrase", f"{colour} {kind}")).standard_normal(_MEANINGS)
            own = _KIND * self._word(kind) + _COLOUR * self._word(colour) + _PHRASE * name / np.sqrt(_MEANINGS)
            own = _unit(own)
            part = rest[len(kind) :].strip()
            return own if not part else _unit(0.6 * own + 0.7 * self._word(part) + 0.4 * phrase)
        return self._word(text)

    def embed(self, texts: Iterable[str]) -> dict[str, list[float]]:
        """Simulated text embeddings: text to 512 floats of unit length."""
        out = {}
        for text in texts:
            out[text] = np.round(self.vector(self(text)), 7).tolist()
        return out

    def vector(self, meaning: Float[np.ndarray, " 96"]) -> Float[np.ndarray, " 512"]:
        """The text embedding of a meaning."""
        return np.sqrt(_COMMON) * _TEXT_AXIS + np.sqrt(1 - _COMMON) * meaning @ _MEANING_AXES


class WildEncoder:
    """Describes masks: simulated features of crops.

    Args:
        truth: the scene's names.
        meanings: of its texts.
        difficulty: the knob `margin`.
        seed: the scene's, from which each thing's own looks and errors are drawn.
    """

    def __init__(self, truth: SceneTruth, meanings: Meanings, difficulty: Difficulty, seed: int) -> None:
        self.truth, self.meanings, self.seed = truth, meanings, seed
        self._strength = difficulty.margin / np.sqrt(1 - _COMMON)
        spread = np.sqrt(1 - _COMMON) / np.sqrt(_MEANINGS)  # of the cosine of a random unit meaning with a text
        self._crop, self._thing = _CROP_NOISE / spread, _THING_NOISE / spread

    def _own(self, what: object, size: int, name: str) -> np.ndarray:
        return _unit(np.random.default_rng(_seed(name, self.seed, what)).standard_normal(size))

    def describe(self, masks: list[WildMask], view: ViewTruth, rng: np.random.Generator) -> Float[np.ndarray, "M 512"]:
        """One feature per mask, unit length."""
        out = np.empty((len(masks), WIDTH))
        for row, mask in enumerate(masks):
            content, clarity = self._crop_of(mask, view)
            who = mask.owner or (mask.kind, mask.content[0][0])
            meaning = self._strength * clarity * content + self._thing * self._own(who, _MEANINGS, "error")
            meaning = meaning + self._crop * _unit(rng.standard_normal(_MEANINGS))
            looks = np.sqrt(1 - _FRESH**2) * self._own(who, len(_LOOKS), "looks")
            looks = looks + _FRESH * _unit(rng.standard_normal(len(_LOOKS)))
            toward_texts = _IMAGE_COMMON * _TEXT_AXIS + meaning @ _MEANING_AXES
            left = np.sqrt(max(1e-6, 1 - toward_texts @ toward_texts))
            apart = 0.72 * _IMAGE_AXIS + np.sqrt(1 - 0.72**2) * _unit(looks) @ _LOOKS
            out[row] = _unit(toward_texts + left * apart)
        return out

    def _crop_of(self, mask: WildMask, view: ViewTruth) -> tuple[np.ndarray, float]:
        """What a mask's crop means, before noise, and how clearly (0 to 1)."""
        m = mask.mask
        tight = window(m, 0)
        inside, box = m[tight], view.ids[tight]
        around = np.bincount(box[~inside], minlength=1)
        area, rest = np.count_nonzero(inside), _CONTEXT * around.sum()
        own = area / (area + rest)
        content = own * sum(share * self.meanings(text) for text, share in mask.content)
        for number in np.flatnonzero(around).tolist():
            text = self.truth.labels.get(number, "stuff")
            content = content + (1 - own) * around[number] / max(around.sum(), 1) * self.meanings(text)
        size = np.clip(np.sqrt(area / (_AREA * m.size)), _FAINTEST, 1.0)
        hidden = _hidden(m, view.distance) if mask.owner else 0.0
        return content, float(size * (1 - _HIDDEN * hidden) * _PIECE.get(mask.kind, 1.0))


def _hidden(mask: np.ndarray, distance: np.ndarray) -> float:
    """Share of a mask's outline where something nearer begins."""
    where = window(mask, 3)
    part, away = mask[where].astype(np.uint8), distance[where].astype(np.float32)
    ring = cv2.dilate(part, np.ones((5, 5), np.uint8)).astype(bool) & (part == 0)
    count = cv2.blur(part.astype(np.float32), (7, 7))
    mean = cv2.blur(away * part, (7, 7)) / np.maximum(count, 1e-6)
    return float((away[ring] < 0.985 * mean[ring]).mean()) if ring.any() else 0.0
