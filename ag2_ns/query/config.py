"""Every threshold of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class QueryConfig:
    """What a text, a click, a box or a picture means, and when nothing is meant.

    Chosen on table-tops of seeds below 100 unless a source is named.
    """

    section: ClassVar[str] = "query"

    strategy: Literal["tree", "collaborative", "both"] = "tree"
    """How texts and pictures are answered (see `ag2_ns.query.collaborative.Strategy`); the tree measures best on
    table-tops (`examples/benchmarks/cos3d.py`)."""
    floor: float = 0.57
    """Least relevancy of what a text selects, against the canonical negatives and before any stretch; 0.5 is as
    relevant as "object". The highest that keeps 0.95 of what is there in every world. (Seeds 1 to 9, 14 things, 24
    views: of table-tops it keeps 0.99 and rejects 0.97 of kinds that are not there; of wild ones it keeps 0.95 and
    rejects 0.6. A kind that is there, in another colour, is rejected in one case of three: no floor tells those apart.)
    """
    image_floor: float = 0.55
    """Least relevancy against the scene's median of what a picture selects; 0.5 is as alike as anything else here."""
    several_share: float = 0.7
    """With several instances asked for, those are taken that rise above the typical relevancy by this share of what the
    best one does. (Twins of seeds 3 to 7: at least 0.78; other things there at most 0.49, fragments of twins 0.68.)"""
    related_share: float = 0.8
    """A node above or below the best one that rises this share as far above the typical relevancy answers as well; of
    those, the one that fits its masks best is meant."""
    part_handicap: float = 0.1
    """How much better a part has to fit its masks than the object to be meant where both answer (up to 0.6 all is
    the same on seeds below 100)."""
    group_handicap: float = 0.1
    """Likewise a group, where the text mentions one thing ("stack of books" mentions several)."""
    member_share: float = 0.5
    """A group is one thing of several parts where all its members rise this share as far as it does. (Seeds 3 to 7: of
    such things the least has 0.59; of other groups that answer nearly as well as anything, one has at most 0.26.)"""
    kin: float = 0.7
    """And where they say the same, unless it answers best itself: so alike is its language to that of each member. (As
    in `GroupingConfig.kin`; things 0.7 to 1.0, stacks of books at most 0.3.)"""
    group_share: float = 0.9
    """Any other group counts as if it rose this share as far, where the text mentions one thing."""
    piece_share: float = 0.8
    """Likewise a piece of a thing, where a closed list says which texts are of parts. (A bowl whose object is the book
    below it is found by its piece; of many pieces one resembles what is not there.)"""
    part_bonus: float = 0.5
    """How much worse a part may fit where the text adds a word to another text that is known ("red mug handle")."""
    beyond_thing: float = 0.25
    """How much what such a text says beyond the other counts more, among the parts of the thing that the other means.
    (Trained wild table-tops, seeds 3 to 5: mean IoU of texts of parts 0.60 without, 0.60 to 0.61 from 0.25 to 0.75.)"""
    synonym: float = 0.95
    """Texts of at least this cosine with the one that is asked say the same, and are no rivals of it. (Of two of 103
    real CLIP embeddings the closest have 0.92.)"""
    present: float = 0.47
    """Evidence, against rival texts, below which nothing in the scene is meant: 0.5 is a node that the best rival
    names as well. (Trained wild table-tops of 14 and 40 things, seeds 3 to 5: it keeps all of what is there and rejects
    0.83 of texts that were chosen to resemble it; in a room of 64 it keeps 0.93 and rejects 0.93.)"""
    present_part: float = 0.45
    """Likewise of such a text: few masks show small parts alone, so less evidence is to be had."""
    present_open: float = 0.49
    """Likewise where nouns stand in for a closed list. (On the same table-tops, through a simulated encoder that takes
    any text, it keeps 0.98 and rejects 0.94. Not measured with weights of CLIP.)"""
    pieces: bool = False
    """Whether pieces of things may tell that something is there. So it is for texts of parts, and where no list says
    which texts those are."""
    nouns: bool = True
    """Let nouns compete with texts where the encoder takes any: some 200 more texts to embed per question, and 1,920
    with the first one."""
    least_rivals: int = 100
    """Texts that a closed list must hold to stand for everything that might be asked. Shorter lists hold what is in the
    scene, and say nothing of what is not."""
    nearest: int = 5
    """Candidates that an answer names beside what it selects."""
    clear: float = 0.5
    """A text names something only where it is more relevant than this: better than the canonical negatives, or where
    the encoder does not know those, better than for most of the scene."""
    solid: float = 0.5
    """Opacity below which a clicked pixel shows the background."""
    tie: float = 0.75
    """Instances with at least this share of the weight of the strongest at a pixel are as good: the smallest of them is
    meant. People click small things as often as large ones, so at an outline each pixel of the small one is the
    likelier target."""
    inside: float = 0.5
    """Least share of a node's visible part that must lie inside a box."""
    box_piece: float = 0.01
    """How much better, by F1, a piece has to fill a box than the thing: boxes are drawn around things."""
    box_tie: float = 1e-3
    """F1 values of a box as near as that are equal."""


DEFAULTS = QueryConfig()
