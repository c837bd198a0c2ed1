"""Facts about the things of a scene, for questions about where they are: boxes, sizes, colours, what stands on what.

Everything is in the scene's units, in a frame whose last axis points up. Facts are computed once per scene; a sentence
then only combines numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.special import expit
from torch import Tensor

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.ops.bounds import inliers, weighted_quantile
from ag2_ns.ops.boxes import Box, oriented_box, upright_box
from ag2_ns.ops.sh import sh_to_rgb
from ag2_ns.perception.palette import BASIC, basic_shares
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.scene.up_axis import find_up, upright_frame


@dataclass(frozen=True)
class GeometryConfig:
    """Thresholds of the relations. Lengths count in units: the median size of the scene's things (`Facts.unit`)."""

    contact: float = 0.16
    """Units of height between a thing's bottom and what carries it at which "on" has fallen to 1/e. Splats blur edges
    by about a tenth of a thing's size, and plates carry things below their rim."""
    footprint: float = 0.5
    """Share of a thing's bottom that must lie over what carries it: its centre of mass must."""
    touch: float = 0.12
    """Units between two surfaces at which "touching" has fallen to 1/e: the spacing of Gaussians on a thing."""
    tilt: float = 0.78
    """Volume of the closest box of any orientation over that of the upright one, below which a thing counts as tilted.
    Things that stand upright have 0.85 to 1, books that lean 0.3 to 0.6."""
    near: float = 0.9
    """Units between surfaces at which "near" and "next to" have fallen to 1/2: somewhat less than a thing's breadth."""
    far: float = 3.0
    """Units between surfaces at which "far from" has risen to 1/2."""
    between: float = 0.3
    """Distance from the line between two things at which "between" has fallen to 1/e, as a share of the line."""
    structure: float = 3.0
    """A thing longer than this many units is taken for a table, a floor or a wall: it is not meant by "thing"."""
    samples: int = 300
    """Points kept of each thing for distances: more change nearest distances by less than `touch` / 4."""


_SLOW = ("gap", "over", "surface")
"""Matrices that go over points; the others combine them."""


@dataclass(frozen=True)
class Facts:
    """K things with their geometry. Matrices are [K, K]: row the thing that is described, column the reference."""

    nodes: tuple[int, ...]
    """Nodes of the instance tree; ascending."""
    frame: Float[np.ndarray, "3 3"]
    """Axes of the upright frame as rows, in the scene's frame; the last is up."""
    points: list[Float[np.ndarray, "P 3"]] = field(repr=False)
    """A sample of each thing's points, upright frame."""
    low: Float[np.ndarray, "K 3"]
    """Lower corner of each thing's box along the axes of the upright frame, without floaters."""
    high: Float[np.ndarray, "K 3"]
    boxes: list[Box] = field(repr=False)
    """Each thing's upright box of least area, scene's frame."""
    colours: Float[np.ndarray, "K 11"]
    """Share of each basic colour term (`palette.BASIC`) in each thing; rows sum to 1."""
    config: GeometryConfig = GeometryConfig()

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def up(self) -> Float[np.ndarray, "3"]:
        """The vertical, scene's frame."""
        return self.frame[2]

    @property
    def centre(self) -> Float[np.ndarray, "K 3"]:
        """Centre of each thing's box, upright frame."""
        return (self.low + self.high) / 2

    @property
    def size(self) -> Float[np.ndarray, "K 3"]:
        """Extent along the axes of the upright frame."""
        return self.high - self.low

    @cached_property
    def length(self) -> Float[np.ndarray, " K"]:
        """Longest edge of each thing's upright box."""
        return np.array([b.size.max() for b in self.boxes]) if self.boxes else np.zeros(0)

    @cached_property
    def volume(self) -> Float[np.ndarray, " K"]:
        """Volume of each thing's upright box."""
        return np.array([np.prod(np.maximum(b.size, 1e-6)) for b in self.boxes]) if self.boxes else np.zeros(0)

    @cached_property
    def unit(self) -> float:
        """Median over the things of their longest edge: what lengths are compared with."""
        return float(np.median(self.length)) if len(self) else 1.0

    @cached_property
    def is_thing(self) -> Float[np.ndarray, " K"]:
        """1 for things, near 0 for what is so large that it is a table, a floor, a wall."""
        ratio = self.length / (self.config.structure * max(self.unit, 1e-9))
        return 1 / (1 + ratio**8)

    @cached_property
    def closest_boxes(self) -> list[Box]:
        """Each thing's box of least volume, of any orientation, upright frame."""
        return [oriented_box(p) if len(p) >= 8 else b for p, b in zip(self.points, self.boxes)]

    @cached_property
    def bulk(self) -> Float[np.ndarray, " K"]:
        """How big each thing looks: mean of its diagonal and the edge of a cube of its volume, as a length.

        By volume alone an open book is smaller than an apple, by diagonal alone a pencil is larger than a mug.
        """
        size = np.array([b.size for b in self.closest_boxes]).reshape(-1, 3)
        return np.sqrt(np.linalg.norm(size, axis=1) * np.cbrt(np.maximum(size, 1e-6).prod(1)))

    @cached_property
    def tilt(self) -> Float[np.ndarray, " K"]:
        """How surely each thing stands neither upright nor flat, 0 to 1."""
        out = np.zeros(len(self))
        for k, box in enumerate(self.closest_boxes):
            if self.is_thing[k] > 0.5:
                ratio = float(np.prod(np.maximum(box.size, 1e-6))) / max(float(self.volume[k]), 1e-12)
                out[k] = expit((self.config.tilt - ratio) / 0.06)
        return out

    @cached_property
    def gap(self) -> Float[np.ndarray, "K K"]:
        """Distance between the surfaces of two things; 0 on the diagonal."""
        k, out = len(self), np.zeros((len(self), len(self)))
        trees = [cKDTree(p) for p in self.points]
        for i in range(k):
            apart = np.maximum(0, np.maximum(self.low[i] - self.high, self.low - self.high[i]))
            boxes = np.linalg.norm(apart, axis=1)
            for j in range(i + 1, k):
                value = boxes[j]
                if value < 4 * self.unit:
                    few, many = (i, j) if len(self.points[i]) <= len(self.points[j]) else (j, i)
                    value = trees[many].query(self.points[few])[0].min()
                out[i, j] = out[j, i] = value
        return out

    @cached_property
    def touching(self) -> Float[np.ndarray, "K K"]:
        """How surely two things touch."""
        out = np.exp(-((self.gap / (self.config.touch * self.unit)) ** 2))
        np.fill_diagonal(out, 0)
        return out

    @cached_property
    def over(self) -> Float[np.ndarray, "K K"]:
        """Share of the row's bottom that lies over the column's outline, seen from above."""
        out = np.zeros((len(self), len(self)))
        for i, points in enumerate(self.points):
            foot = points[points[:, 2] <= self.low[i, 2] + max(0.25 * self.size[i, 2], 1e-9)]
            foot = foot if len(foot) >= 5 else points
            if not len(foot):
                continue
            beside = (foot[:, :2].max(0) < self.low[:, :2]) | (foot[:, :2].min(0) > self.high[:, :2])
            for j in np.flatnonzero(~beside.any(1)):
                if i != j:
                    out[i, j] = float(self._outlines[j](foot[:, :2]).mean())
        return out

    @cached_property
    def _outlines(self) -> list:
        """For each thing a test whether points lie within its outline seen from above."""
        return [_outline_test(p[:, :2]) for p in self.points]

    @cached_property
    def surface(self) -> Float[np.ndarray, "K K"]:
        """Height of the column's upper side below the row."""
        out = np.tile(self.high[None, :, 2], (len(self), 1)).copy()
        for i in range(len(self)):
            middle, half = self.centre[i, :2], 0.65 * self.size[i, :2] + 1e-9
            for j, points in enumerate(self.points):
                if i == j or self.over[i, j] < 0.2:
                    continue
                under = points[(np.abs(points[:, :2] - middle) <= half).all(1)]
                if len(under) >= 3:
                    # What lies below the thing's middle: the rim of a plate does not count, nor a lamp's shade.
                    heights = under[:, 2][under[:, 2] <= self.centre[i, 2]]
                    out[i, j] = np.quantile(heights, 0.85) if len(heights) else np.inf
        return out

    @cached_property
    def on(self) -> Float[np.ndarray, "K K"]:
        """How surely the column directly carries the row."""
        scale = self.config.contact * self.unit
        below = self.low[:, None, 2] - self.surface
        contact = np.exp(-((below / scale) ** 2)) * (self.centre[:, None, 2] > self.centre[None, :, 2])
        held = 1 / (1 + np.exp((self.config.footprint - self.over) / 0.1))
        score = contact * held
        np.fill_diagonal(score, 0)
        # Of several things below, that carries which the others carry: the plate, not the book under it.
        lower = (score[:, :, None] * score[None] > 0.2).any(1) & (score > score.T)
        score = np.where(lower, 0.15 * score, score)
        # Things do not float: what touches nothing by this measure stands on the highest thing below it. Splats lack
        # what no camera sees, so the lowest point seen may be well above the true one.
        lost = (score.max(1, initial=0.0) < 0.4) & (self.is_thing > 0.5)
        beneath = (self.over > 0.3) & (self.surface < self.centre[:, None, 2]) & ~np.eye(len(self), dtype=bool)
        height = np.where(beneath, self.surface, -np.inf)
        for i in np.flatnonzero(lost & beneath.any(1)):
            j = int(height[i].argmax())
            score[i, j] = max(score[i, j], 0.7)
        return score

    @cached_property
    def carried(self) -> Float[np.ndarray, "K K"]:
        """Like `on`, also through other things in between, each of which halves the score."""
        total, step = self.on.copy(), self.on
        for _ in range(3):
            step = 0.5 * (step[:, :, None] * self.on[None]).max(1)
            np.fill_diagonal(step, 0)
            total = np.maximum(total, step)
        return total

    @cached_property
    def inside(self) -> Float[np.ndarray, "K K"]:
        """How surely the row is in the column: over it, and lower than its rim with its middle or most of itself."""
        depth = (self.high[None, :, 2] - self.low[:, None, 2]) / np.maximum(self.size[:, None, 2], 1e-9)
        above_floor = self.low[:, None, 2] > self.low[None, :, 2] - 0.25 * self.config.contact * self.unit
        smaller = (self.length[:, None] < 1.05 * self.length[None]).astype(float)
        out = self.over * smaller * above_floor * np.clip((depth - 0.25) / 0.35, 0, 1)
        np.fill_diagonal(out, 0)
        return out

    @cached_property
    def above(self) -> Float[np.ndarray, "K K"]:
        """How surely the row is above the column, in contact or not."""
        higher = self.low[:, None, 2] > self.high[None, :, 2] - 0.3 * np.maximum(self.size[:, None, 2], 1e-9)
        shared = np.maximum(self.over, self.over.T)
        out = np.clip((shared - 0.2) / 0.4, 0, 1) * higher
        np.fill_diagonal(out, 0)
        return np.maximum(out, self.carried)

    @cached_property
    def leaning(self) -> Float[np.ndarray, "K K"]:
        """How surely the row leans on the column: touches it, tilted, carried by something else."""
        out = self.touching * (0.15 + 0.85 * self.tilt[:, None])
        return out * (1 - self.carried) * (1 - self.carried.T) * (self.is_thing[None] * 0.8 + 0.2)

    @cached_property
    def near(self) -> Float[np.ndarray, "K K"]:
        """How surely the row is near the column: 1/2 at `GeometryConfig.near`. What stands on it is not beside it."""
        out = 1 / (1 + (self.gap / (self.config.near * self.unit)) ** 2)
        out = out * (1 - 0.7 * np.maximum(self.carried, self.carried.T))
        np.fill_diagonal(out, 0)
        return out

    @cached_property
    def far(self) -> Float[np.ndarray, "K K"]:
        """How surely the row is far from the column."""
        ratio = (self.gap / (self.config.far * self.unit)) ** 3
        out = ratio / (1 + ratio)
        np.fill_diagonal(out, 0)
        return out

    def to_dict(self) -> dict[str, Tensor]:
        """Flat names to tensors, what takes long to compute included: for safetensors."""
        rows = {name: np.array([[*b.centre, *b.axes.ravel(), *b.size] for b in boxes]).reshape(len(self), 15)
                for name, boxes in (("boxes", self.boxes), ("closest_boxes", self.closest_boxes))}  # fmt: skip
        rows |= {name: getattr(self, name) for name in ("frame", "low", "high", "colours", *_SLOW)}
        count = torch.tensor([len(p) for p in self.points])
        points = torch.from_numpy(np.concatenate([np.zeros((0, 3)), *self.points]).astype(np.float32))
        whole = {"nodes": torch.tensor(self.nodes, dtype=torch.long), "count": count, "points": points}
        return whole | {name: torch.from_numpy(np.ascontiguousarray(v, np.float64)) for name, v in rows.items()}

    @staticmethod
    def from_dict(tensors: Mapping[str, Tensor], config: GeometryConfig) -> Facts:
        """The inverse of `to_dict`."""
        rows = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        boxes = {k: [Box(r[:3], r[3:12].reshape(3, 3), r[12:]) for r in rows[k]] for k in ("boxes", "closest_boxes")}
        points = (
            np.split(rows["points"].astype(np.float64), np.cumsum(rows["count"])[:-1]) if len(rows["count"]) else []
        )
        out = Facts(
            tuple(rows["nodes"].tolist()), rows["frame"], points, rows["low"], rows["high"], boxes["boxes"],
            rows["colours"], config,
        )  # fmt: skip
        vars(out).update({name: rows[name] for name in _SLOW} | {"closest_boxes": boxes["closest_boxes"]})
        return out

    def between(self, a: int, b: int) -> Float[np.ndarray, " K"]:
        """How surely each thing is between two others, seen from above."""
        p = self.centre[:, :2]
        line = p[b] - p[a]
        length = max(float(np.linalg.norm(line)), 1e-9)
        along = ((p - p[a]) @ line) / length**2
        aside = np.linalg.norm(p - p[a] - along[:, None] * line, axis=1) / length
        score = np.exp(-((aside / self.config.between) ** 2)) * np.clip(np.minimum(along, 1 - along) / 0.12, 0, 1)
        score[[a, b]] = 0
        return score * (0.3 + 0.7 * self.is_thing)


@dataclass(frozen=True)
class Seen:
    """The things as a viewer sees them. Lengths in scene units."""

    lateral: Float[np.ndarray, " K"]
    """Distance to the right of the viewer's line of sight."""
    depth: Float[np.ndarray, " K"]
    """Horizontal distance in front of the viewer."""
    column: Float[np.ndarray, " K"]
    """Position across the picture: lateral over depth, the tangent of the bearing."""

    @staticmethod
    def by(facts: Facts, view: View) -> Seen:
        """What the camera of a view sees."""
        pose = view.viewmat.double().cpu().numpy()
        turn = pose[:3, :3]
        eye = facts.frame @ (-turn.T @ pose[:3, 3])
        forward, right = facts.frame @ turn[2], facts.frame @ turn[0]
        if np.linalg.norm(forward[:2]) < 0.2:  # straight down: up in the picture is ahead
            forward = facts.frame @ -turn[1]
        return Seen.from_point(facts, eye, forward, right)

    @staticmethod
    def from_point(
        facts: Facts,
        eye: Float[np.ndarray, "3"],
        forward: Float[np.ndarray, "3"],
        right: Float[np.ndarray, "3"] | None = None,
    ) -> Seen:
        """What somebody at a point sees who looks along `forward`; both in the upright frame."""
        ahead = forward[:2] / max(float(np.linalg.norm(forward[:2])), 1e-9)
        side = np.array([ahead[1], -ahead[0]])
        if right is not None and side @ right[:2] < 0:  # an upside-down camera
            side = -side
        offset = facts.centre[:, :2] - eye[:2]
        lateral, depth = offset @ side, offset @ ahead
        return Seen(lateral, depth, lateral / np.maximum(depth, 0.05 * facts.unit))

    def right_of(self, facts: Facts) -> Float[np.ndarray, "K K"]:
        """How surely the row is to the right of the column; left is the transpose.

        Half a thing's breadth aside is enough; straight to the side is better than far behind or in front.
        """
        metres = self.lateral[:, None] - self.lateral[None]
        picture = (self.column[:, None] - self.column[None]) * self.depth[None]
        along = (metres + picture) / 2
        across = np.abs(self.depth[:, None] - self.depth[None])
        return _directed(along, across, facts.unit)

    def in_front_of(self, facts: Facts) -> Float[np.ndarray, "K K"]:
        """How surely the row is in front of the column, nearer to the viewer; behind is the transpose."""
        along = self.depth[None] - self.depth[:, None]
        metres = np.abs(self.lateral[:, None] - self.lateral[None])
        picture = np.abs(self.column[:, None] - self.column[None]) * np.minimum(self.depth[:, None], self.depth[None])
        return _directed(along, (metres + picture) / 2, facts.unit)


def _directed(along: np.ndarray, across: np.ndarray, unit: float) -> np.ndarray:
    """1 for a thing straight in a direction, 1/2 at the edge of what the direction covers, 0 for the other side."""
    side = expit((along - 0.2 * unit) / (0.07 * unit))
    angle = np.degrees(np.arctan2(across, np.maximum(along, 1e-9)))
    cone = 0.55 + 0.45 / (1 + np.exp((angle - 50) / 8))
    # Of two things that are equally to the left, the closer one is meant; a matter of taste, so it counts little.
    close = 1 - 0.08 * np.tanh(np.hypot(along, across) / (8 * unit))
    out = side * cone * close
    np.fill_diagonal(out, 0)
    return out


def _outline_test(flat: Float[np.ndarray, "P 2"]):
    try:
        hull = ConvexHull(flat)
    except (QhullError, ValueError, IndexError):
        return lambda points: np.zeros(len(points), bool)
    normals, offsets = hull.equations[:, :2], hull.equations[:, 2]
    return lambda points: (points @ normals.T + offsets <= 1e-9).all(1)


def things_of(tree: InstanceTree, level: float = 0.5) -> list[int]:
    """The nodes that sentences are about: the instances of a level.

    Not groups, which are instances of a lower level only by the anchors that none of their members holds: a group is no
    thing beside its members.
    """
    nodes = tree.instances(level)
    return nodes[(tree.level[nodes] <= level + 1e-6) | (tree.last[nodes] == nodes)].tolist()


def gather_facts(
    index: SceneIndex,
    gaussians: Gaussians,
    views: Sequence[View] = (),
    *,
    nodes: Sequence[int] | None = None,
    up: Sequence[float] | None = None,
    config: GeometryConfig | None = None,
) -> Facts:
    """The facts of a scene.

    Args:
        index: its instances.
        gaussians: its Gaussians.
        views: its cameras, from which the vertical is found.
        nodes: the nodes of the tree that are things; by default the objects (level 0.5).
        up: the vertical in the scene's frame, where it is known.
        config: thresholds.
    """
    config = config or GeometryConfig()
    nodes = things_of(index.tree) if nodes is None else sorted(nodes)
    up = find_up(gaussians.means, gaussians.opacities, views) if up is None else np.asarray(up, float)
    frame = upright_frame(up)
    turn = torch.tensor(frame, dtype=torch.float32)
    # On the CPU, where some thousand points take less time than to wait for a GPU. In order of their nodes those of a
    # thing lie beside each other.
    own_node = index.tree.anchor_node[index.gaussian_anchor].cpu()
    order = torch.argsort(own_node, stable=True)
    begin = torch.searchsorted(own_node[order], torch.tensor(nodes, dtype=torch.long)).tolist()
    end = torch.searchsorted(own_node[order], index.tree.last.cpu()[nodes], right=True).tolist()
    gaussians = replace(gaussians.detach(), sh=gaussians.sh[:, :1].detach()).to("cpu")
    rng = np.random.default_rng(0)
    kept, points, low, high, boxes, colours = [], [], [], [], [], []
    for node, start, stop in zip(nodes, begin, end):
        part = gaussians[order[start:stop].sort().values]
        if len(part) < 4:
            continue
        local, weight = (part.means.float() @ turn.T).double(), part.opacities
        solid = inliers(local, weight)
        solid = solid if int(solid.sum()) >= 4 else torch.ones_like(solid)
        local, weight = local[solid], weight[solid]
        lo, hi = (weighted_quantile(local, weight, q).numpy() for q in (0.005, 0.995))
        cloud = local.numpy()
        cloud = cloud[((cloud >= lo) & (cloud <= hi)).all(1)] if len(cloud) > 50 else cloud
        box = upright_box(cloud, np.array([0.0, 0, 1]))
        large = float(box.size.max())
        # Large things need more points to be as dense as small ones.
        count = config.samples if len(points) == 0 else int(config.samples * max(1.0, large / _median(boxes)) ** 2)
        pick = rng.permutation(len(cloud))[: min(count, 8 * config.samples)]
        kept.append(int(node))
        points.append(cloud[pick])
        low.append(cloud.min(0))
        high.append(cloud.max(0))
        boxes.append(Box(box.centre, box.axes, box.size))
        colours.append(_colour_shares(part))
    world = [Box(b.centre @ frame, b.axes @ frame, b.size) for b in boxes]
    count = len(kept)
    return Facts(
        tuple(kept),
        frame,
        points,
        np.array(low).reshape(count, 3),
        np.array(high).reshape(count, 3),
        world,
        np.array(colours).reshape(count, len(BASIC)),
        config,
    )


def _median(boxes: list[Box]) -> float:
    return max(float(np.median([b.size.max() for b in boxes])), 1e-9)


def _colour_shares(part: Gaussians) -> Float[np.ndarray, " 11"]:
    """Shares of the basic colour terms, Gaussians weighted by opacity and the area of their largest cross-section."""
    rgb = sh_to_rgb(part.sh[:, 0].float()).clamp(0, 1)
    scales = part.scales.float().sort(dim=1).values
    weight = (part.opacities.float() * scales[:, 1] * scales[:, 2]).double()
    weight = weight / weight.sum().clamp_min(1e-12)
    shares = basic_shares((255 * rgb).round().to(torch.uint8).numpy())
    return weight.numpy() @ shares
