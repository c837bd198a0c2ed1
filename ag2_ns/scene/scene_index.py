"""Everything that queries need, as plain tensors: anchors, graph, instance tree and language of one scene."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.grouping.config import DEFAULTS, GroupingConfig
from ag2_ns.grouping.feature_tree import feature_tree
from ag2_ns.grouping.lifting import LiftedMasks, lift_masks
from ag2_ns.grouping.parts import add_parts
from ag2_ns.grouping.refine import contested_anchors, refine_anchors
from ag2_ns.grouping.tree import InstanceTree, build_tree, warm_up
from ag2_ns.language.node_language import NodeLanguage, node_language
from ag2_ns.ops.memory import free_memory
from ag2_ns.ops.threads import in_background
from ag2_ns.rendering.base import Rasterizer

PAIR_BYTES = 150
"""What the weights of a (Gaussian, view) pair take at the peak, where three masks or so overlap and all are seen."""

ENTRY_BYTES = 32
"""What one weight takes at the peak."""

MOST_MEMORY = 0.5
"""Share of the free memory that weights by Gaussian may take; beyond that only those at borders are kept."""

MOST_PASSES = 6
"""Most passes over all masks that Gaussians at borders get their weights in, where those do not fit at once."""


@dataclass(frozen=True)
class SceneIndex:
    """Anchors, graph, tree and language; the queries of `ag2_ns.query` are functions of it."""

    gaussian_anchor: Int[Tensor, " N"]
    """The anchor of each Gaussian. May differ from the model's child map where a Gaussian fits a neighbour better."""
    anchor_xyz: Float[Tensor, "A 3"]
    edges: Int[Tensor, "2 E"]
    tree: InstanceTree
    language: NodeLanguage
    encoder: UInt8[Tensor, " L"] = field(default_factory=lambda: torch.zeros(0, dtype=torch.uint8))
    """What the language is by, see `Manifest.to_bytes`; empty where it is not known."""

    @property
    def num_anchors(self) -> int:
        """A."""
        return self.anchor_xyz.shape[0]

    @property
    def num_gaussians(self) -> int:
        """N."""
        return self.gaussian_anchor.shape[0]

    @property
    def has_language(self) -> bool:
        """Whether any node carries an image-text feature."""
        return self.language.feature.numel() > 0 and bool((self.language.feature != 0).any())

    def to(self, device: torch.device | str) -> SceneIndex:
        """The same on `device`."""
        return SceneIndex(
            self.gaussian_anchor.to(device),
            self.anchor_xyz.to(device),
            self.edges.to(device),
            self.tree.to(device),
            self.language.to(device),
            self.encoder,
        )

    def gaussian_node(self, level: float = 0.5) -> Int[Tensor, " N"]:
        """The instance of each Gaussian at a level, -1 for none."""
        return self.tree.cut(level)[self.gaussian_anchor]

    def selection(
        self,
        nodes: Sequence[int],
        label: str,
        score: float,
        level: float | None = None,
        anchor_score: Float[Tensor, " A"] | None = None,
    ) -> Selection:
        """The union of some nodes as a selection; `anchor_score` defaults to `score` inside and 0 outside."""
        inside: Bool[Tensor, " A"] = torch.zeros(self.num_anchors, dtype=torch.bool, device=self.anchor_xyz.device)
        for node in nodes:
            inside |= self.tree.anchors_of(node)
        if anchor_score is None:
            anchor_score = inside * float(score)
        return Selection(
            anchor_score, inside, inside[self.gaussian_anchor], label, float(score), tuple(int(n) for n in nodes), level
        )

    def without(self, found: Selection, other: Selection) -> Selection:
        """What `found` selects and `other` does not, with those nodes of it that are still whole."""
        left = found.without(other)
        whole = [n for n in found.nodes if bool(left.anchor_mask[self.tree.anchors_of(n)].all())]
        return replace(left, nodes=tuple(whole))

    def nothing(self, label: str, reason: str, score: float = 0.0) -> Selection:
        """The empty selection, with the reason, and how well what came nearest answers."""
        return Selection.nothing(self.num_anchors, self.num_gaussians, label, self.anchor_xyz.device, reason, score)

    def to_dict(self) -> dict[str, Tensor]:
        """Flat names to contiguous tensors: for checkpoint buffers and safetensors."""
        out = {name: getattr(self, name) for name in ("gaussian_anchor", "anchor_xyz", "edges")}
        for part in ("tree", "language"):
            value = getattr(self, part)
            out |= {f"{part}.{f.name}": getattr(value, f.name) for f in fields(value)}
        if len(self.encoder):
            out["encoder"] = self.encoder
        return {name: tensor.contiguous() for name, tensor in out.items()}

    @staticmethod
    def from_dict(tensors: Mapping[str, Tensor]) -> SceneIndex:
        """The inverse of `to_dict`; other names in the mapping are ignored.

        Raises:
            UserError: a tensor is missing.
        """
        try:
            tree = InstanceTree(**{f.name: tensors[f"tree.{f.name}"] for f in fields(InstanceTree)})
            language = NodeLanguage(**{f.name: tensors[f"language.{f.name}"] for f in fields(NodeLanguage)})
            parts = [tensors[name] for name in ("gaussian_anchor", "anchor_xyz", "edges")]
        except KeyError as missing:
            raise UserError(f"the scene index lacks {missing}; make it again with `ag2 lift`") from None
        known = {"encoder": tensors["encoder"]} if "encoder" in tensors else {}
        return SceneIndex(*parts, tree, language, **known)


def build_index(
    rasterizer: Rasterizer,
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    anchor_xyz: Float[Tensor, "A 3"],
    edges: Int[Tensor, "2 E"],
    views: Sequence[View],
    masks: Iterable[MaskSet],
    features: Sequence[Float[Tensor, "M D"] | None] | None = None,
    *,
    anchor_feature: Float[Tensor, "A F"] | None = None,
    config: GroupingConfig = DEFAULTS,
    refine: bool = True,
    progress: Callable[[int], None] | None = None,
) -> SceneIndex:
    """Lift masks, merge anchors, attach language: a queryable scene from any splat.

    Args:
        rasterizer: the backend that rendered or would render the Gaussians.
        gaussians: N Gaussians on the device where the work is done.
        gaussian_anchor: the anchor of each Gaussian.
        anchor_xyz: the anchors' centres.
        edges: the anchor graph.
        views: the views that have masks.
        masks: the masks of each view; iterated once, or again where there are too many Gaussians for all their weights.
        features: one row per mask, per view, read after the masks; without those of every view the index answers clicks
            and boxes only.
        anchor_feature: instance features of a trained run, as further evidence for merging.
        config: thresholds.
        refine: let Gaussians near borders join the neighbouring anchor whose object fits them better.
        progress: called with the number of views lifted.
    """
    num_anchors, count = len(anchor_xyz), len(gaussians)
    lift = partial(lift_masks, rasterizer, gaussians, views, progress=progress)
    alone = refine and fits(count * len(views) * PAIR_BYTES, gaussians.device)
    entries = torch.zeros(count, dtype=torch.long, device=gaussians.device)
    by_anchor = {} if alone else {"unit": gaussian_anchor, "num_units": num_anchors, "entries": entries}
    with in_background(partial(warm_up, gaussians.device)):
        first = lift(masks, **by_anchor)
    lifted = first.group(gaussian_anchor, num_anchors) if alone else first
    language = _joined(lifted, features)
    tree = build_tree(lifted, edges, anchor_feature, config, language if language.shape[1] else None)
    if refine:
        # Gaussians move to neighbours in the object that they fit better. To merge again would find the same objects.
        label = tree.cut(0.5)
        if alone:
            gaussian_anchor = refine_anchors(first, gaussians.means, gaussian_anchor, anchor_xyz, edges, label, config)
            lifted = first.group(gaussian_anchor, num_anchors)
        else:
            gaussian_anchor, lifted = _refined_at_borders(
                lift, masks, gaussians, entries, gaussian_anchor, anchor_xyz, edges, label, lifted, config,
            )  # fmt: skip
        tree = replace(tree, seen=lifted.visible >= config.seen)
    if alone:
        tree, gaussian_anchor, lifted = add_parts(tree, first, gaussian_anchor, gaussians.means, anchor_xyz, config)
    else:
        itself = torch.arange(num_anchors, device=gaussian_anchor.device)
        tree, *_ = add_parts(tree, lifted, itself, anchor_xyz, anchor_xyz, config)
    return SceneIndex(gaussian_anchor, anchor_xyz, edges, tree, node_language(tree, lifted, language))


def _refined_at_borders(
    lift: Callable[..., LiftedMasks],
    masks: Iterable[MaskSet],
    gaussians: Gaussians,
    entries: Int[Tensor, " N"],
    gaussian_anchor: Int[Tensor, " N"],
    anchor_xyz: Float[Tensor, "A 3"],
    edges: Int[Tensor, "2 E"],
    label: Int[Tensor, " A"],
    lifted: LiftedMasks,
    config: GroupingConfig,
) -> tuple[Int[Tensor, " N"], LiftedMasks]:
    """`refine_anchors` where the weights of all Gaussians are too many: only those at borders get weights of their own.

    No other Gaussian could move, and sums of weights are exact, so the result is the same. Where not even these fit,
    they get them in several passes, each for some of the anchors.

    Returns:
        (anchor of each Gaussian, masks lifted onto the anchors).
    """
    border, count = contested_anchors(edges, label)[gaussian_anchor], len(anchor_xyz)
    needed = int(entries[border].sum()) * ENTRY_BYTES
    passes = next((n for n in range(1, MOST_PASSES + 1) if fits(-(-needed // n), gaussians.device)), 0)
    if not passes:
        warnings.warn(
            f"anchors are not refined: the weights of {int(border.sum()):,} Gaussians at borders need {needed >> 20:,} "
            f"MiB, more than {gaussians.device} holds in {MOST_PASSES} passes; borders of instances will be coarser",
            stacklevel=3,
        )
        return gaussian_anchor, lifted
    # Anchors in parts whose Gaussians at borders have about as many weights.
    by_anchor = entries.new_zeros(count).index_add_(0, gaussian_anchor.clamp(min=0), entries * border)
    before = torch.cumsum(by_anchor, 0) - by_anchor
    part = torch.div(before * passes, by_anchor.sum().clamp(min=1), rounding_mode="floor")[gaussian_anchor]
    out, by_unit = gaussian_anchor.clone(), None
    for k in range(passes):
        del by_unit  # before there are new ones
        here = border & (part == k)
        # Units: all anchors, and behind them these Gaussians.
        unit = torch.where(here, torch.cumsum(here, 0) - 1 + count, gaussian_anchor)
        of_unit = torch.cat([torch.arange(count, device=unit.device), gaussian_anchor[here]])
        means = torch.cat([anchor_xyz, gaussians.means[here]])
        by_unit = lift(masks, unit=unit, num_units=len(of_unit))
        moved = refine_anchors(by_unit, means, of_unit, anchor_xyz, edges, label, config)
        out[here] = moved[count:]
    if passes == 1:
        moved[:count] = of_unit[:count]
        return out, by_unit.group(moved, count)
    del by_unit
    return out, lift(masks, unit=out, num_units=count)


def fits(needed: int, device: torch.device) -> bool:
    """Whether so many bytes may be taken for weights."""
    return needed <= MOST_MEMORY * free_memory(device)


def build_feature_index(
    rasterizer: Rasterizer,
    gaussians: Gaussians,
    gaussian_anchor: Int[Tensor, " N"],
    anchor_xyz: Float[Tensor, "A 3"],
    anchor_feature: Float[Tensor, "A F"],
    graph: AnchorGraph,
    views: Sequence[View],
    masks: Iterable[MaskSet],
    features: Sequence[Float[Tensor, "M D"] | None] | None = None,
    *,
    config: GroupingConfig = DEFAULTS,
    progress: Callable[[int], None] | None = None,
) -> SceneIndex:
    """The paper's way: instances from trained features alone (see `feature_tree`), language from lifted masks.

    Args:
        rasterizer: the backend that rendered or would render the Gaussians.
        gaussians: N Gaussians on the device where the work is done.
        gaussian_anchor: the anchor of each Gaussian.
        anchor_xyz: the anchors' centres.
        anchor_feature: their trained instance features.
        graph: the merging graph.
        views: the views that have masks.
        masks: the masks of each view, asked for once.
        features: one row per mask, per view, read after the masks; without those of every view the index answers clicks
            and boxes only.
        config: thresholds.
        progress: called with the number of views lifted.
    """
    lifted = lift_masks(
        rasterizer, gaussians, views, masks, unit=gaussian_anchor, num_units=len(anchor_xyz), progress=progress
    )
    tree = feature_tree(lifted, anchor_feature, anchor_xyz, graph, config)
    return SceneIndex(gaussian_anchor, anchor_xyz, graph.edges, tree, language_of(tree, lifted, features))


def language_of(
    tree: InstanceTree, lifted: LiftedMasks, features: Sequence[Float[Tensor, "M D"] | None] | None
) -> NodeLanguage:
    """`node_language` from the features of each view; featureless (D = 0) when there are none."""
    return node_language(tree, lifted, _joined(lifted, features))


def _joined(lifted: LiftedMasks, features: Sequence[Float[Tensor, "M D"] | None] | None) -> Float[Tensor, "M D"]:
    """The features of all masks, D = 0 where not every view has them.

    Raises:
        UserError: they differ in width.
    """
    if features is None or any(f is None for f in features):
        features = [torch.zeros(lifted.num_masks, 0)]
    parts = [f.to(lifted.row.device, torch.float32) for f in features]
    if len({p.shape[1] for p in parts if len(p)}) > 1:
        raise UserError("the views' features differ in width; run `ag2 prepare --overwrite` with one encoder")
    width = max((p.shape[1] for p in parts), default=0)
    parts = [p if len(p) else p.new_zeros(0, width) for p in parts]
    return torch.cat(parts)
