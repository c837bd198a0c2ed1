"""Streets as labelled points, without pictures: what SMAP is trained and measured on where no data set is at hand.

A sensor at the origin, 1.8 m up, sees a road, pavements, and things along them, each sampled on its surface with a
density that falls with distance. Point features and picture vectors live in a simulated text space: a point has its
class's vector with noise, as distilled features have; a picture has the mixture of the classes that it shows, by the
root of their share (small things are named as readily as large ones), and noise.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

CLASSES = (
    "road", "sidewalk", "grass", "building", "tree", "car", "truck", "bus", "bicycle", "motorcycle", "pedestrian",
    "traffic cone", "barrier", "pole", "traffic sign", "fence",
)  # fmt: skip

CAMERAS = 6
FIELD = np.deg2rad(70)
"""Width of a camera's view; six of 70 degrees overlap by ten, as nuScenes' do."""

REACH = 40.0
"""Metres from the sensor to the furthest points."""

SIZES: dict[str, tuple[float, float, float]] = {
    "building": (14, 8, 9), "tree": (3, 3, 6), "car": (4.4, 1.8, 1.5), "truck": (8, 2.5, 3.2), "bus": (11, 2.6, 3.2),
    "bicycle": (1.7, 0.5, 1.1), "motorcycle": (2.1, 0.8, 1.4), "pedestrian": (0.6, 0.6, 1.75), "barrier": (2, 0.5, 1),
    "traffic cone": (0.4, 0.4, 0.8), "pole": (0.2, 0.2, 6), "traffic sign": (0.7, 0.1, 2.4), "fence": (8, 0.1, 1.5),
}  # fmt: skip
"""Length, width and height of things, metres."""


@dataclass(frozen=True)
class PointStreet:
    """N points."""

    xyz: Float[np.ndarray, "N 3"]
    label: Int[np.ndarray, " N"]
    """Place in `CLASSES`."""
    feature: Float[np.ndarray, "N C"]
    cameras: Bool[np.ndarray, "6 N"]
    """The points that each camera sees."""
    vectors: Float[np.ndarray, "6 C"]
    """Of the cameras' pictures, unit length."""


def class_vectors(width: int = 64) -> Float[np.ndarray, "16 C"]:
    """Text vectors of the classes: cosines of about 0.5, as unrelated words have."""
    return word_vectors(CLASSES, width)


def word_vectors(words: tuple[str, ...] | list[str], width: int = 64) -> Float[np.ndarray, "T C"]:
    """Text vectors of any words in the same space."""
    common = _direction("what all words share", width)
    return np.stack([_unit(common + _direction(w, width)) for w in words])


def picture_vector(label: np.ndarray, weight: np.ndarray, texts: np.ndarray, rng: np.random.Generator, noise: float):
    """Vector of a picture that shows points of these classes, each of them so large."""
    share = np.bincount(label, weight, len(CLASSES)) / max(weight.sum(), 1e-12)
    mixed = _unit(np.sqrt(share) @ texts)
    return _unit(mixed + 0.1 * noise * rng.standard_normal(len(mixed)) / np.sqrt(len(mixed)))


def make(seed: int, *, width: int = 64, points: int = 6000, noise: float = 1.0, kinds: int = 7) -> PointStreet:
    """One street.

    Args:
        seed: what stands where, and the noise.
        width: of the vectors.
        points: about so many.
        noise: of features and picture vectors: 1 makes point features of a cosine of 0.7 to their class.
        kinds: kinds of things that stand along it.
    """
    rng = np.random.default_rng([seed, 31])
    parts, labels = _ground(rng, points)
    things = list(SIZES)
    chosen = rng.choice(len(things), min(kinds, len(things)), replace=False)
    each = max(points // 60, 20)
    for kind in (things[k] for k in chosen):
        for _ in range(rng.integers(1, 5)):
            parts.append(_box(rng, kind, each))
            labels.append(np.full(len(parts[-1]), CLASSES.index(kind)))
    xyz, label = np.concatenate(parts), np.concatenate(labels)
    distance = np.linalg.norm(xyz[:, :2], axis=1)
    kept = (distance > 2) & (distance < REACH) & (rng.random(len(xyz)) < np.clip(12 / distance, 0.15, 1))
    xyz, label = xyz[kept].astype(np.float32), label[kept]
    texts = class_vectors(width)
    feature = texts[label] + noise * rng.standard_normal((len(label), width)) / np.sqrt(width)
    heading = np.arctan2(xyz[:, 1], xyz[:, 0])
    middle = np.arange(CAMERAS) * 2 * np.pi / CAMERAS
    away = np.abs((heading[None] - middle[:, None] + np.pi) % (2 * np.pi) - np.pi)
    cameras = away < FIELD / 2
    solid = 1 / np.maximum(np.linalg.norm(xyz, axis=1), 3)
    vectors = np.stack([picture_vector(label[c], solid[c], texts, rng, noise) for c in cameras])
    unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    return PointStreet(xyz, label, unit.astype(np.float32), cameras, vectors.astype(np.float32))


def _ground(rng: np.random.Generator, points: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Road along x, pavements beside it, grass behind them on one or both sides."""
    half, pave = rng.uniform(3.5, 7), rng.uniform(1.5, 3.5)
    bands = [("road", -half, half), ("sidewalk", half, half + pave), ("sidewalk", -half - pave, -half)]
    sides = rng.permutation([1, -1])[: rng.integers(0, 3)]
    bands += [("grass", *sorted((s * (half + pave), s * REACH))) for s in sides]
    parts, labels = [], []
    for name, low, high in bands:
        n = int(points * (high - low) / 40)
        across, along = rng.uniform(low, high, n), rng.uniform(-REACH, REACH, n)
        parts.append(np.stack([along, across, np.full(n, -1.8) + 0.02 * rng.standard_normal(n)], 1))
        labels.append(np.full(n, CLASSES.index(name)))
    return parts, labels


def _box(rng: np.random.Generator, kind: str, count: int) -> np.ndarray:
    """Points on the sides of one thing that stands beside or on the road."""
    size = np.array(SIZES[kind]) * rng.uniform(0.85, 1.15)
    side = rng.choice([-1, 1])
    across = side * (
        rng.uniform(1.5, 6) if kind in ("car", "truck", "bus", "bicycle", "motorcycle") else rng.uniform(7, 16)
    )
    centre = np.array([rng.uniform(-30, 30), across, -1.8 + size[2] / 2])
    points = rng.uniform(-0.5, 0.5, (count, 3))
    face = rng.integers(0, 2, count)
    points[np.arange(count), face] = rng.choice([-0.5, 0.5], count)
    return centre + points * size


def _direction(word: str, width: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(f"street {word}".encode()).digest()[:8], "little")
    return _unit(np.random.default_rng(seed).standard_normal(width))


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)
