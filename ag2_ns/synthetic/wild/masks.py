"""A simulated segmenter that proposes masks as SAM does: wholes, parts, pieces, groups and things that are nothing.

| proposed | how often, in a view that shows it |
|---|---|
| whole of a thing | knob `wholes`, each thing with its own share within 0.15 |
| named part; thing without one of its parts | knob `parts`, each part with its own share within 0.2; 0.12 |
| piece of a pattern or a shaded side | two sides of the median brightness, then connected pieces: 0.3 each, at most 4 |
| highlight | the brightest 4 % of a thing: 0.15 |
| arbitrary half of a thing | 0.04 |
| named group; pair that touches | knob `groups`; a third of it |
| shadow beside a thing | darkest quarter of the support around it: 0.25 |
| table or shelf | 0.8, with holes of 3 ellipses; once in three times together with what stands on it |
| floor, wall, furniture, its pieces | 0.5 each, at most 24 |
| patch of the background | 10 blobs a view |

The last three and pieces, highlights, shadows are multiplied by the knob `clutter`. Outlines are off by the knob
`border` along smooth curves: an offset per mask (0.35 of it) and noise with knots 14 px apart. Where a mask meets
something of a similar colour (mean sRGB within 30 of 255) it bleeds across the contact in 0.35 of the cases, up to 6
times the border's error deep. Masks below 40 px at 640x480 (in proportion elsewhere, at least 8) are not proposed.
Sources: probabilities and counts as SAM ViT-H with 32 points a side gives them on indoor views (30 to 150 masks a view,
parts and wholes mixed); wholes missing in 35 to 60 % of the views as measured on a prototype of this generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from ag2_ns.synthetic.wild.difficulty import Difficulty
from ag2_ns.synthetic.wild.truth import SceneTruth, ViewTruth

_WITHOUT, _PATTERN, _PATTERNS, _LIGHT, _HALF, _SHADOW = 0.12, 0.3, 4, 0.15, 0.04, 0.25
_SUPPORT, _LADEN, _HOLES, _SURFACE, _SURFACES, _BLOBS = 0.8, 0.33, 3, 0.5, 24, 10
_OFFSET, _KNOTS, _SIMILAR, _BLEED, _DEEP = 0.35, 14.0, 30.0, 0.35, 6.0
_WHOLE_SPREAD, _PART_SPREAD = 0.15, 0.2
_MIN_AREA = 40 / (640 * 480)


@dataclass(frozen=True)
class WildMask:
    """One proposed mask and what it shows."""

    mask: Bool[np.ndarray, "H W"]
    kind: str
    """whole, part, rest, pattern, light, half, group, pair, shadow, support, surface or patch."""
    content: tuple[tuple[str, float], ...]
    """Texts of what is inside and their shares, which sum to 1."""
    owner: int = 0
    """Id of the thing that it is about, 0 for none or several."""


def smooth_noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit root mean square, with knots `cell` pixels apart."""
    coarse = rng.standard_normal((int(shape[0] / cell) + 4, int(shape[1] / cell) + 4)).astype(np.float32)
    size = (int(np.ceil(coarse.shape[1] * cell)), int(np.ceil(coarse.shape[0] * cell)))
    fine = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return 1.35 * fine[int(cell) : int(cell) + shape[0], int(cell) : int(cell) + shape[1]]


def window(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The rows and columns that hold a mask, and a margin."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def move_outline(mask: Bool[np.ndarray, "H W"], border: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Move a mask's outline by an offset and smooth noise of `border` pixels in all; picture borders do not move."""
    offset = rng.normal(0, _OFFSET * border)
    wave = np.sqrt(1 - _OFFSET**2) * border
    where = window(mask, int(np.ceil(3 * border + abs(offset))) + 2)
    part = mask[where]
    if part.all() or border <= 0:
        return mask
    signed = _signed_distance(part)
    out = np.zeros_like(mask)
    out[where] = signed + offset + wave * smooth_noise(part.shape, _KNOTS * scale + 2, rng) > 0
    return out


def _signed_distance(part: np.ndarray) -> np.ndarray:
    """Distance to the outline, positive inside."""
    pad = np.pad(part, 1, mode="edge").astype(np.uint8)
    inside = cv2.distanceTransform(pad, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    outside = cv2.distanceTransform(1 - pad, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.where(part, inside - 0.5, 0.5 - outside)


def _holed(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Ellipses of 2 to 6 % of the picture's width cut out of a mask."""
    y, x = np.nonzero(mask)
    grid_y, grid_x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    out = mask.copy()
    for _ in range(count):
        n = int(rng.integers(len(x)))
        a, b = rng.uniform(0.02, 0.06, 2) * mask.shape[1]
        out &= ((grid_x - x[n]) / a) ** 2 + ((grid_y - y[n]) / b) ** 2 > 1
    return out


@dataclass
class WildSegmenter:
    """Proposes the masks of a scene's views; everything that lasts over the views is drawn once, from the seed."""

    truth: SceneTruth
    difficulty: Difficulty
    seed: int
    _share: dict[tuple[str, int], float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        rng, d = np.random.default_rng([self.seed, 21]), self.difficulty
        for number in self.truth.labels:
            low, high = d.wholes - _WHOLE_SPREAD, d.wholes + _WHOLE_SPREAD
            self._share["whole", number] = float(np.clip(rng.uniform(low, high), 0, 1))
        for number in self.truth.parts:
            low, high = d.parts - _PART_SPREAD, d.parts + _PART_SPREAD
            self._share["part", number] = float(np.clip(rng.uniform(low, high), 0, 1)) if d.parts > 0 else 0.0

    def propose(self, view: ViewTruth, rng: np.random.Generator) -> list[WildMask]:
        """The masks of one view, in random order."""
        return _View(self, view, rng).proposals()

    def share(self, kind: str, number: int) -> float:
        """In what share of its views a whole or a part is proposed."""
        return self._share[kind, number]


class _View:
    """The proposals of one view, while they are made."""

    def __init__(self, of: WildSegmenter, view: ViewTruth, rng: np.random.Generator) -> None:
        self.of, self.view, self.rng, self.truth, self.knobs = of, view, rng, of.truth, of.difficulty
        height, width = view.ids.shape
        self.scale = max(width / 640, 0.6)
        self.smallest = max(8, _MIN_AREA * height * width)
        self.found: list[WildMask] = []
        self.colour: dict[int, np.ndarray] = {}

    def often(self, share: float) -> bool:
        return self.rng.random() < share

    def proposals(self) -> list[WildMask]:
        ids = self.view.ids
        for number in (int(i) for i in np.unique(ids) if i > 0):
            mask = ids == number
            if np.count_nonzero(mask) < self.smallest:
                continue
            if number in self.truth.supports:
                self._support(number, mask)
            else:
                self._thing(number, mask)
        self._groups()
        self._background()
        order = self.rng.permutation(len(self.found))
        return [self.found[k] for k in order]

    def _add(self, mask: np.ndarray, kind: str, content, owner: int = 0) -> None:
        if np.count_nonzero(mask) < self.smallest:
            return
        if owner and kind in ("whole", "rest", "half", "part"):
            mask = self._bleed(mask, owner)
        mask = move_outline(mask, self.knobs.border * self.scale, self.scale, self.rng)
        if np.count_nonzero(mask) >= self.smallest:
            self.found.append(WildMask(mask, kind, tuple(content), owner))

    def _thing(self, number: int, mask: np.ndarray) -> None:
        label, of = self.truth.labels[number], self.of
        if self.often(of.share("whole", number)):
            self._add(mask, "whole", [(label, 1.0)], number)
        for part in (int(p) for p in np.unique(self.view.parts[mask]) if p > 0):
            piece, text = mask & (self.view.parts == part), self.truth.parts[part]
            if self.often(of.share("part", part)):
                self._add(piece, "part", [(text, 0.5), (label, 0.5)], number)
            if self.knobs.parts > 0 and self.often(_WITHOUT):
                self._add(mask & ~piece, "rest", [(label, 1.0)], number)
        if self.often(_HALF):
            self._add(self._half(mask), "half", [(label, 1.0)], number)
        clutter = self.knobs.clutter
        for piece in self._pieces(mask):
            if self.often(_PATTERN * clutter):
                self._add(piece, "pattern", [(label, 0.4), ("texture", 0.6)], number)
        if self.often(_LIGHT * clutter):
            self._add(self._brightest(mask), "light", [(label, 0.3), ("texture", 0.7)], number)
        if self.often(_SHADOW * clutter):
            self._add(self._shadow(mask), "shadow", [("stuff", 1.0)])

    def _half(self, mask: np.ndarray) -> np.ndarray:
        y, x = np.nonzero(mask)
        a = self.rng.uniform(0, np.pi)
        grid_y, grid_x = np.ogrid[: mask.shape[0], : mask.shape[1]]
        return mask & ((grid_x - x.mean()) * np.cos(a) + (grid_y - y.mean()) * np.sin(a) > 0)

    def _grey(self, where: tuple[slice, slice]) -> np.ndarray:
        return self.view.rgb[where].astype(np.float32).mean(2)

    def _pieces(self, mask: np.ndarray) -> list[np.ndarray]:
        """The largest connected pieces of a thing that are brighter, or darker, than half of it."""
        where = window(mask, 1)
        part, grey = mask[where], cv2.blur(self._grey(where), (3, 3))
        middle = np.median(grey[part])
        found = []
        for side in (part & (grey > middle + 6), part & (grey < middle - 6)):
            labelled, count = ndimage.label(side)
            sizes = np.bincount(labelled.ravel(), minlength=count + 1)
            sizes[0] = 0
            for k in np.argsort(-sizes, kind="stable")[:_PATTERNS]:
                if sizes[k] >= max(self.smallest, 0.04 * np.count_nonzero(part)):
                    found.append((int(sizes[k]), labelled == k))
        found.sort(key=lambda pair: -pair[0])
        return [self._full(piece, where) for _, piece in found[:_PATTERNS]]

    def _full(self, part: np.ndarray, where: tuple[slice, slice]) -> np.ndarray:
        out = np.zeros(self.view.ids.shape, bool)
        out[where] = part
        return out

    def _brightest(self, mask: np.ndarray) -> np.ndarray:
        where = window(mask, 1)
        part, grey = mask[where], cv2.blur(self._grey(where), (5, 5))
        bright = part & (grey >= np.quantile(grey[part], 0.96))
        labelled, count = ndimage.label(bright)
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)
        sizes[0] = 0
        return self._full(labelled == int(sizes.argmax()), where)

    def _shadow(self, mask: np.ndarray) -> np.ndarray:
        """The darkest quarter of the support within a third of the thing's size of it, its largest piece."""
        size = int(max(4, 0.33 * np.sqrt(np.count_nonzero(mask))))
        where = window(mask, size)
        near = _signed_distance(mask[where]) > -size
        ground = near & np.isin(self.view.ids[where], self.truth.supports)
        if np.count_nonzero(ground) < self.smallest:
            return np.zeros_like(mask)
        grey = cv2.blur(self._grey(where), (5, 5))
        labelled, count = ndimage.label(ground & (grey <= np.quantile(grey[ground], 0.25)))
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)
        sizes[0] = 0
        return self._full(labelled == int(sizes.argmax()), where)

    def _mean_colour(self, number: int) -> np.ndarray:
        if number not in self.colour:
            self.colour[number] = self.view.rgb[self.view.ids == number].astype(np.float32).mean(0)
        return self.colour[number]

    def _bleed(self, mask: np.ndarray, owner: int) -> np.ndarray:
        """A mask grown over its contacts with things of a similar colour, where its luck is bad."""
        reach = int(np.ceil(_DEEP * self.knobs.border * self.scale))
        if reach < 1:
            return mask
        where = window(mask, reach)
        part, ids = mask[where], self.view.ids[where]
        ring = cv2.dilate(part.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~part & (ids != owner)
        out = part.copy()
        for other in np.unique(ids[ring]).tolist():
            if not self.often(_BLEED) or other == 0:
                continue
            if np.abs(self._mean_colour(owner) - self._mean_colour(other)).mean() > _SIMILAR:
                continue
            depth = reach * np.clip(0.5 + 0.6 * smooth_noise(part.shape, 20 * self.scale + 2, self.rng), 0, 1)
            out |= (ids == other) & (-_signed_distance(part) < depth)
        return self._full(out, where)

    def _support(self, number: int, mask: np.ndarray) -> None:
        if not self.often(_SUPPORT):
            return
        label = self.truth.labels[number]
        if self.often(_LADEN):
            where = ndimage.binary_fill_holes(mask)
            there = self.view.ids[where & (self.view.ids > 0) & (self.view.ids != number)]
            self._add(where, "support", [(label, 0.6), *_shares(there, self.truth.labels, 0.4)] if len(there) else
                      [(label, 1.0)])  # fmt: skip
        self._add(_holed(mask, _HOLES, self.rng), "support", [(label, 1.0)], 0)

    def _groups(self) -> None:
        ids = self.view.ids
        grouped: set[frozenset[int]] = set()
        for name, members in self.truth.groups:
            mask = np.isin(ids, members)
            shown = [m for m in members if (ids == m).any()]
            grouped |= {frozenset((a, b)) for a in members for b in members}
            if len(shown) > 1 and self.often(self.knobs.groups):
                inside = ids[mask]
                self._add(mask, "group", [(name, 0.5), *_shares(inside, self.truth.labels, 0.5)])
        for one, other in sorted(sorted(pair) for pair in self._contacts() - grouped):
            if self.often(self.knobs.groups / 3):
                mask = (ids == one) | (ids == other)
                self._add(mask, "pair", _shares(ids[mask], self.truth.labels, 1.0))

    def _contacts(self) -> set[frozenset[int]]:
        """Pairs of things that touch in the picture."""
        ids, found = self.view.ids, set()
        for a, b in ((ids[:, 1:], ids[:, :-1]), (ids[1:], ids[:-1])):
            touch = (a != b) & (a > 0) & (b > 0)
            for one, other in np.unique(np.sort(np.stack([a[touch], b[touch]], 1), axis=1), axis=0).tolist():
                if one not in self.truth.supports and other not in self.truth.supports:
                    found.add(frozenset((one, other)))
        return found

    def _background(self) -> None:
        clutter = self.knobs.clutter
        shown = [(n, m) for n, m in self.view.surfaces if np.count_nonzero(m) >= self.smallest]
        order = self.rng.permutation(len(shown))[: int(_SURFACES * max(clutter, 0.5))]
        for k in order.tolist():
            name, mask = shown[k]
            if self.often(_SURFACE * min(clutter, 2.0)):
                self._add(mask, "surface", [(name, 1.0)])
        free = (self.view.ids == 0) | np.isin(self.view.ids, self.truth.supports)
        y, x = np.nonzero(free)
        height, width = free.shape
        for _ in range(round(_BLOBS * clutter) if len(x) else 0):
            n, radius = int(self.rng.integers(len(x))), float(self.rng.uniform(0.015, 0.07)) * width
            top, left = max(0, int(y[n] - 2 * radius)), max(0, int(x[n] - 2 * radius))
            where = slice(top, int(y[n] + 2 * radius) + 1), slice(left, int(x[n] + 2 * radius) + 1)
            grid_y, grid_x = np.mgrid[where[0].start : min(where[0].stop, height), left : min(where[1].stop, width)]
            away = np.hypot(grid_y - y[n], grid_x - x[n]) / radius
            shape = away + 0.35 * smooth_noise(away.shape, max(radius / 2, 3.0), self.rng) < 1
            self._add(self._full(shape, where) & free, "patch", [("stuff", 1.0)])


def _shares(ids: np.ndarray, labels: dict[int, str], total: float) -> list[tuple[str, float]]:
    """What some pixels show, in shares that sum to `total`."""
    number, count = np.unique(ids, return_counts=True)
    return [(labels[int(n)], total * c / count.sum()) for n, c in zip(number, count)]
