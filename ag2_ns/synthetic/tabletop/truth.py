"""What is true on a table-top: predicates over exact boxes, with margins.

Every predicate is yes (1), no (0) or too close to call (nan), so that a sentence is kept only where nobody would argue.
Independent of what answers questions in a reconstruction: these are the bodies as they were placed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ag2_ns.synthetic.tabletop.kinds import ALL_KINDS, COLOURS
from ag2_ns.synthetic.tabletop.layout import TABLE_LABEL, Layout

SIDE = 0.1
"""Half widths of the table by which one thing must be further left or nearer."""
CONE = (45.0, 75.0)
"""Degrees off a direction up to which a thing lies in it, and beyond which it does not."""
NEXT_TO = (0.18, 0.42)
"""Gap between boxes, body units (a mug is 0.2 high), up to which things are neighbours, and beyond which not."""
BETWEEN = (0.18, 0.45)
"""Distance from the line between two things, as a share of it, likewise."""
LARGER = 1.15
"""How much larger the largest must be, by volume's cube root and by diagonal."""
FEET = 0.1
"""Share of a piece of furniture's height below which something stands beside or under it, not on it."""
TALLER = 1.08
NO, YES, OPEN = 0.0, 1.0, np.nan


@dataclass(frozen=True)
class Truth:
    """K things of a layout, the table last. Matrices are [K, K]: row the thing described, column the reference."""

    ids: tuple[int, ...]
    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    """Empty for the table."""
    low: Float[np.ndarray, "K 3"]
    high: Float[np.ndarray, "K 3"]
    position: Float[np.ndarray, "K 3"]
    scale: Float[np.ndarray, " K"]
    tilted: tuple[bool, ...]
    half: float
    """Half width of the table."""

    @staticmethod
    def of(layout: Layout) -> Truth:
        """The things of a layout."""
        placed = sorted((p for p in layout.placed if p.id), key=lambda p: p.id)
        outlines = [p.outline() for p in placed]
        kinds, colours = [], []
        for p in placed:
            colour, _, kind = layout.labels[p.id].partition(" ")
            kinds.append(kind if colour in COLOURS else layout.labels[p.id])
            colours.append(colour if colour in COLOURS else "")
        return Truth(
            tuple(p.id for p in placed),
            tuple(kinds),
            tuple(colours),
            np.array([o.min(0) for o in outlines]),
            np.array([o.max(0) for o in outlines]),
            np.array([p.position for p in placed], float),
            np.array([p.scale for p in placed], float),
            tuple(bool(p.turn[2, 2] < np.cos(np.radians(5))) for p in placed),
            layout.table_half,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def table(self) -> int:
        """Index of the table."""
        return self.kinds.index(TABLE_LABEL)

    @property
    def centre(self) -> Float[np.ndarray, "K 3"]:
        """Centre of each box."""
        return (self.low + self.high) / 2

    @cached_property
    def on(self) -> Float[np.ndarray, "K K"]:
        """Whether the column directly carries the row."""
        out = np.zeros((len(self), len(self)))
        for i in range(len(self)):
            if i == self.table:
                continue
            for j, kind in enumerate(self.kinds):
                if i == j or j == self.table or self.tilted[j]:
                    continue
                if kind not in ALL_KINDS:  # furniture holds what stands above its feet within its outline
                    above = self.low[i, 2] > self.low[j, 2] + FEET * (self.high[j, 2] - self.low[j, 2])
                    inside = self.low[j, :2] <= self.position[i, :2], self.position[i, :2] <= self.high[j, :2]
                    out[i, j] = YES if above and np.all(inside) else NO
                    continue
                if ALL_KINDS[kind].shelf is None:
                    continue
                height, radius = (v * self.scale[j] for v in ALL_KINDS[kind].shelf)
                off = np.linalg.norm(self.position[i, :2] - self.position[j, :2])
                if abs(self.position[i, 2] - self.position[j, 2] - height) < 0.01 and off < radius:
                    out[i, j] = YES
            on_top = abs(self.low[i, 2]) < 0.02 and np.abs(self.position[i, :2]).max() < self.half
            if on_top and not out[i].any():
                out[i, self.table] = YES
        return out

    @cached_property
    def carried(self) -> Float[np.ndarray, "K K"]:
        """Whether the column carries the row, open where other things are in between."""
        out, step = self.on.copy(), self.on
        for _ in range(3):
            step = (step @ self.on > 0).astype(float)
            out = np.where((out == NO) & (step > 0), OPEN, out)
        return out

    @cached_property
    def leaning(self) -> Float[np.ndarray, "K K"]:
        """Whether the row leans on the column."""
        out = np.zeros((len(self), len(self)))
        for i in np.flatnonzero(self.tilted):
            walls = [j for j, kind in enumerate(self.kinds) if kind in ALL_KINDS and ALL_KINDS[kind].wall is not None]
            if walls:
                out[i, min(walls, key=lambda j: self.gap[i, j])] = YES
        return out

    @cached_property
    def gap(self) -> Float[np.ndarray, "K K"]:
        """Distance between the boxes."""
        apart = np.maximum(self.low[:, None] - self.high[None], self.low[None] - self.high[:, None])
        return np.linalg.norm(np.maximum(apart, 0), axis=2)

    @cached_property
    def next_to(self) -> Float[np.ndarray, "K K"]:
        """Whether two things stand next to each other; open for what stands on the other or leans on it."""
        out = np.where(self.gap <= NEXT_TO[0], YES, np.where(self.gap >= NEXT_TO[1], NO, OPEN))
        level = np.abs(self.low[:, None, 2] - self.low[None, :, 2]) < 0.02
        stacked = (self.carried != NO) | (self.carried.T != NO) | (self.leaning > 0) | (self.leaning.T > 0)
        out = np.where(level | (out == NO), out, OPEN)
        out = np.where(stacked, OPEN, out)
        out[self.table], out[:, self.table] = OPEN, OPEN
        np.fill_diagonal(out, NO)
        return out

    def between(self, a: int, b: int) -> Float[np.ndarray, " K"]:
        """Whether each thing stands between two others."""
        p = self.centre[:, :2]
        line = p[b] - p[a]
        length = max(float(np.linalg.norm(line)), 1e-9)
        along = ((p - p[a]) @ line) / length**2
        aside = np.linalg.norm(p - p[a] - along[:, None] * line, axis=1) / length
        yes = (aside < BETWEEN[0]) & (along > 0.25) & (along < 0.75)
        no = (aside > BETWEEN[1]) | (along < 0.02) | (along > 0.98)
        out = np.where(yes, YES, np.where(no, NO, OPEN))
        out[[a, b]] = NO
        return out

    def view_bound(self, pose: Float[np.ndarray, "3 4"], name: str) -> Float[np.ndarray, "K K"]:
        """Whether the row is left, right, in front or behind the column for somebody who looks along a camera."""
        x, depth = self.seen(pose)
        along = {"left": x[None] - x[:, None], "right": x[:, None] - x[None], "front": depth[None] - depth[:, None],
                 "behind": depth[:, None] - depth[None]}[name]  # fmt: skip
        across = depth[:, None] - depth[None] if name in ("left", "right") else x[:, None] - x[None]
        # The picture must agree: perspective turns "left of" around for things far apart in depth.
        column = x / depth
        pictured = {"left": column[None] - column[:, None], "right": column[:, None] - column[None]}.get(name)
        angle = np.degrees(np.arctan2(np.abs(across), along))
        least = SIDE * self.half
        yes = (along > least) & (angle < CONE[0])
        no = (along < -least) | (angle > CONE[1])
        if pictured is not None:
            yes &= pictured > 0.02
            no &= (pictured < -0.02) | (angle > CONE[1])
        out = np.where(yes, YES, np.where(no & (along < least), NO, OPEN))
        out[self.table], out[:, self.table] = OPEN, OPEN
        np.fill_diagonal(out, NO)
        return out

    def seen(self, pose: Float[np.ndarray, "3 4"]) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Horizontal distances to the right of a camera's line of sight and in front of it (OpenGL axes)."""
        ahead = -pose[:2, 2] / np.linalg.norm(pose[:2, 2])
        offset = self.centre[:, :2] - pose[:2, 3]
        return offset @ np.array([ahead[1], -ahead[0]]), offset @ ahead

    def measure(self, name: str, pose: Float[np.ndarray, "3 4"] | None = None, to: int | None = None):
        """Quantities that must all agree on an order, and by how much: [Q, K] values that grow, and the least lead."""
        size = self.high - self.low
        if name == "size":
            return np.stack([np.cbrt(size.prod(1)), np.linalg.norm(size, axis=1)]), LARGER
        if name == "height":
            return size[None, :, 2], TALLER
        if name == "distance":
            centre = np.linalg.norm(self.centre - self.centre[to], axis=1)
            return np.stack([centre, self.gap[:, to]]), SIDE * self.half
        x, depth = self.seen(pose)
        return {
            "left": np.stack([-x, -x / depth * self.half]),
            "right": np.stack([x, x / depth * self.half]),
            "front": -depth[None],
            "behind": depth[None],
        }[name], SIDE * self.half
