"""Every threshold of grouping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ag2_ns.core.errors import UserError


class Scoring(NamedTuple):
    """The constants of an affinity, as the compiled loops take them; see `GroupingConfig`."""

    part: float
    one_sided: float
    none: float
    feature_views: float
    tau: float
    related: float


@dataclass(frozen=True)
class GroupingConfig:
    """How anchors become parts, objects and groups.

    Chosen on table-tops of seeds below 100 (`examples/benchmarks/instances.py`, `tree.py`) unless a source is named.
    """

    section: ClassVar[str] = "grouping"

    # The graph.
    voxel: float = 0.015
    """Edge of the voxels that the Gaussians of a foreign splat are grouped by, as a share of the scene's extent: half
    of it leaves regions too small to collect votes."""
    reach: float = 4.0
    """Longest edge, in cells of 16 voxels of the run (AG2aussian, section 2: s = 4 for merging and editing)."""
    sparse_reach: float = 4.0
    """The graph reaches at least this many times the typical distance between neighbouring anchors."""
    neighbours: int = 32
    """Nearest neighbours that an anchor may list where lifted masks decide: regions grow, so near ones are enough."""
    feature_neighbours: int = 128
    """Likewise where trained features alone decide (AG2aussian's code)."""
    seen: float = 1.0
    """Visible area (pixels, summed over all views) below which an anchor counts as never seen."""

    # How much two regions belong together, see `ag2_ns.grouping.affinity`.
    part: float = 0.4
    """What a mask around only one of two regions takes from a vote that they belong to one whole."""
    one_sided: float = 0.5
    """Evidence of a view where a mask covers one region and none covers the other."""
    none: float = 1.0
    """Views of evidence against, added to every pair."""
    feature_views: float = 4.0
    """Views of evidence that trained instance features are worth, where they are a further vote."""
    tau: float = 0.1
    """Bandwidth of that vote (AG2aussian: 0.1 for whole objects, 0.05 for parts)."""

    # Merging, see `ag2_ns.grouping.merge`.
    first_stage: float = 0.95
    """Affinity from which pairs merge first."""
    last_stage: float = 0.1
    """Affinity below which nothing merges: what fits nothing stays by itself (floaters)."""
    stage: float = 0.05
    """From one stage to the next."""
    object: float = 0.5
    """Affinity above which two regions are one object: together in most of the views that say something."""
    related: float = 0.25
    """Affinity that pairs need to merge by their relative one."""
    shares: float = 0.1
    """Regions that each fill this much of one mask are compared, neighbours or not."""

    # Regions that may be nodes, and which of them are objects, see `ag2_ns.grouping.condense`.
    part_fill: float = 0.5
    """How much of some mask a part has to fill in the views that show it, on average."""
    object_fill: float = 0.25
    """Likewise an object, which stayed apart from its neighbours for better reasons already."""
    fit: float = 0.3
    """Mean IoU with its best masks below which a region is no candidate."""
    part_inside: float = 0.3
    """Share of a mask that an object has to hold for it to speak of the object's parts."""
    part_vote: float = 0.2
    """IoU from which a mask is about a part."""
    part_views: float = 0.2
    """Least evidence for a part: root of the share of the object's views in which a mask votes for it, times the share
    of its visible area that those views show."""
    part_nested: float = 0.7
    """Share of the evidence for a part that one inside it must have."""
    part_most: float = 0.9
    """What is larger than this share of an object is no part of it."""
    growth: float = 0.05
    """A region is a candidate where it was about to grow by at least this share of its visible area."""
    whole: float = 0.75
    """An object's own masks have to show more than what those about the best objects inside it show, by 1 / this."""
    most: float = 0.6
    """Share of its views in which a node with a mask of its own is an object whatever is said about its parts."""
    held_together: float = 0.7
    """Affinity from which a node need not show more than what is inside it."""
    kin: float = 0.7
    """Kinship from which a node and what is inside it are one thing by their language. (Trained wild table-tops and a
    room, seeds 3 to 5: things of parts have 0.84 to 0.99, two in the room 0.73 and 0.77; groups at most 0.24.)"""
    kin_whole: float = 1.4
    """What is one thing by its language has to show at least 1 / this of what is inside it."""
    kin_share: float = 0.05
    """Share of a node's visible area below which what is inside it is not asked for that."""
    loose: float = 0.4
    """Affinity below which what was joined is no object, if it has regions of its own inside."""

    # What masks vote for, see `ag2_ns.grouping.consensus` and `nesting`.
    vote: float = 0.4
    """IoU from which a mask is about a region at all."""
    vote_margin: float = 0.05
    """How much better than any other candidate a mask has to fit one for its vote to count."""
    alike: float = 1.05
    """Regions, one inside the other, whose visible areas differ by no more than this factor are the same to a view."""
    views: float = 0.25
    """Share of the views that show a region (weighted by its area there) in which some mask must vote for it."""
    piece: float = 0.1
    """Likewise below which an object is taken for a piece of the region around it, if that one is elected: things that
    stand on it cut it in two, and no view shows enough of both."""
    held: float = 0.5
    """Share of a region that the masks about the region around it have to hold, on average over the views."""
    refine_margin: float = 0.05
    """How much better another region must fit before a Gaussian leaves its own, see `ag2_ns.grouping.refine`."""

    # Instances from trained features alone (AG2aussian, section 2, and its code), see `ag2_ns.grouping.super_anchors`.
    object_bandwidth: float = 0.1
    """Of the mean-shift that finds objects: AG2aussian's tau for instances."""
    part_bandwidth: float = 0.05
    """Of the one that finds finer parts."""
    peak_share: float = 0.2
    """Peaks closer than this share of the bandwidth are one: the published 0.01 at the published 0.05."""
    rounds: int = 50
    """Mean-shift rounds at most."""
    tolerance: float = 1e-5
    """An anchor's shift below which its peak is found."""
    min_size: int = 10
    """Anchors of the smallest group that is no fragment."""
    fragment_reach: float = 8.0
    """How far a fragment may be from the group that it joins, in units of the graph's reach."""
    least: int = 5
    """Anchors of the smallest instance: the published code gives language to super-anchors of more than 4."""

    def check(self) -> None:
        """Refuse what nothing can be divided by, before a training rather than after it.

        Raises:
            UserError: a length, a step or a share that is not positive.
        """
        for name in ("voxel", "reach", "neighbours", "tau", "stage", "shares", "object_bandwidth", "part_bandwidth"):
            if not getattr(self, name) > 0:
                raise UserError(f"grouping.{name} {getattr(self, name)}: give a number above 0")

    @property
    def scoring(self) -> Scoring:
        """The constants of an affinity."""
        return Scoring(*(float(getattr(self, name)) for name in Scoring._fields))

    @property
    def stages(self) -> list[float]:
        """Thresholds of merging, falling."""
        count = int((self.first_stage - self.last_stage) / self.stage + 0.5) + 1
        return [round(self.first_stage - k * self.stage, 6) for k in range(count)]


DEFAULTS = GroupingConfig()
