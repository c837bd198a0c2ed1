"""Questions that an encoder has made a vector of, from words or from a picture: by which strategy, and whether at all.

An answer must be relevant by itself: relevancy against the canonical negatives (for pictures: against what is typical
of the scene) before any stretch over the query's range, so the floor does not depend on what else there is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.language.field import LanguageField
from ag2_ns.language.relevancy import relevancy, trusted_relevancy
from ag2_ns.query.collaborative import (
    FieldAnswer,
    Strategy,
    ask_field,
    mean_language,
    node_relevancy,
    refined,
    select_units,
)
from ag2_ns.query.config import DEFAULTS, QueryConfig
from ag2_ns.query.rivals import against
from ag2_ns.query.text import best_nodes, evidence, select_text
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex


@dataclass(frozen=True)
class Asked:
    """A question in an encoder's space, to one scene."""

    index: SceneIndex
    label: str
    """What was asked, for people."""
    vector: Float[Tensor, " D"]
    negatives: Float[Tensor, "K D"] | None
    """Rivals; None compares with the scene's median."""
    field: LanguageField | None = None
    gaussians: Gaussians | None = None
    """Of the scene; needed with a field."""
    rivals: Float[Tensor, "V D"] | None = None
    """Other texts that things may be called by."""
    config: QueryConfig = DEFAULTS

    @cached_property
    def said(self) -> FieldAnswer:
        """What the field says."""
        return ask_field(self.field, self.index, self.gaussians, self.vector, self.negatives)

    @cached_property
    def said_beside(self) -> FieldAnswer:
        """What the field says where everything competes that nodes compete with."""
        if self.rivals is None or len(self.rivals) == 0:
            return self.said
        return ask_field(self.field, self.index, self.gaussians, self.vector, self.against)

    @property
    def against(self) -> Float[Tensor, "R D"] | None:
        """What it competes with."""
        return against(self.vector, self.negatives, self.rivals, self.config.synonym)

    @property
    def best_named(self) -> float:
        """How well the best node answers, rivals considered; 0 without language."""
        if not self.index.has_language:
            return 0.0
        score, _ = trusted_relevancy(self.index.language, self.vector, self.against)
        return evidence(self.index, score, None, self.config)

    @cached_property
    def by_node(self) -> Float[Tensor, " R"]:
        """Relevancy of every node by its own language, neither stretched nor discounted."""
        return relevancy(self.index.language.feature, self.vector, self.negatives)


def select_vector(
    index: SceneIndex,
    label: str,
    vector: Float[Tensor, " D"],
    negatives: Float[Tensor, "K D"] | None,
    *,
    strategy: Strategy = "tree",
    field: LanguageField | None = None,
    gaussians: Gaussians | None = None,
    floor: float = 0.0,
    several: bool | None = None,
    level: float | None = None,
    rivals: Float[Tensor, "V D"] | None = None,
    config: QueryConfig = DEFAULTS,
) -> Answer:
    """What answers a vector.

    Args:
        index: the scene's instances and their language.
        label: what was asked, for people.
        vector: the text or the picture, embedded by the encoder of the scene's features.
        negatives: canonical negatives embedded likewise; None compares with the scene's median.
        strategy: see `Strategy`.
        field: the scene's language field, for the other strategies than "tree".
        gaussians: the scene's.
        floor: least relevancy of an answer; below, nothing is selected.
        several: all instances that answer, not only the best.
        level: look only at the instances of this level.
        rivals: other texts that things may be called by, embedded likewise.
        config: thresholds.

    Returns:
        The answer; empty, with the reason and what came nearest, where nothing is relevant enough.

    Raises:
        UserError: a strategy that needs a field where there is none, or a vector of another encoder.
    """
    if strategy != "tree" and (field is None or gaussians is None):
        raise UserError(
            f"--strategy {strategy}: this scene has no language field; make one with `ag2 lift --language field`"
        )
    if field is not None and strategy != "tree" and vector.shape != (field.language.shape[1],):
        raise UserError(
            f"{label!r}: its embedding has {vector.numel()} numbers but the scene's language field has "
            f"{field.language.shape[1]}; query with the encoder that prepared the scene"
        )
    asked = Asked(index, label, vector, negatives, field, gaussians, rivals, config)
    if strategy == "collaborative":
        return _collaborative(asked, floor)
    answer = _tree(asked, floor, several, level, strategy == "both")
    if strategy == "both" and answer.selection.empty and level is None:
        other = _collaborative(asked, floor, alone=True)  # things that no mask-made node fits
        answer = answer if other.selection.empty else other
    return answer


def _tree(asked: Asked, floor: float, several: bool | None, level: float | None, both: bool) -> Answer:
    """The best node; with `both` by the mean of its own relevancy and the field's over it."""
    index = asked.index
    beside = node_relevancy(asked.field, index, asked.said_beside) if both else None
    found = select_text(
        index,
        asked.label,
        asked.vector,
        asked.negatives,
        rivals=asked.rivals,
        several=several,
        level=level,
        beside=beside,
        config=asked.config,
    )
    if found.empty:
        return Answer(found, reason=found.reason)
    value = asked.by_node if beside is None else torch.fmax(asked.by_node, torch.nan_to_num(beside))
    best = max(float(value[n]) for n in found.nodes)
    others = best_nodes(index, asked.vector, asked.against, found.nodes, asked.config.nearest)
    rest = tuple(Candidate(f"instance {node}", max(0.0, score), (node,)) for node, score in others)
    if best < floor:
        nearest = Candidate(f"instance {found.nodes[0]}", best, found.nodes[:1])
        return nothing(index, asked.label, nearest, floor, rest)
    if several is not False and len(found.nodes) > 1:
        kept = [n for n in found.nodes if float(value[n]) >= floor]
        if len(kept) < len(found.nodes):
            found = index.selection(kept, asked.label, found.score, level, found.anchor_score)
    return Answer(found, (Candidate(asked.label, found.score, found.nodes), *rest), found.reason)


def _collaborative(asked: Asked, floor: float, alone: bool = False) -> Answer:
    """COS3D's answer, less what is not relevant by itself; or by rivals, where there are any.

    Something must be called so rather than something else: the region, or a node of the tree. Where no node is
    (`alone`), no rival at all may name the region better.
    """
    index, said, field = asked.index, asked.said, asked.field
    if said.best < floor:
        unit = int(torch.nan_to_num(said.relevancy).argmax())
        anchor = int(index.gaussian_anchor[unit]) if field.per_gaussian else unit
        node = int(index.tree.cut(0.5)[anchor]) if index.tree.num_nodes else -1
        nearest = Candidate(f"instance {node}" if node >= 0 else "no instance", said.best, (node,) if node >= 0 else ())
        return nothing(index, asked.label, nearest, floor)
    named = asked.rivals is not None and len(asked.rivals) > 0
    called = torch.nan_to_num(asked.said_beside.relevancy) >= asked.config.present if named else None
    chosen = refined(field, said, called)
    found = select_units(field, index, said, chosen, asked.label)
    other = f"nothing in the scene is called {asked.label!r} rather than something else"
    if found.empty:
        region = f"no region of the language field answers {asked.label!r} as a whole"
        reason = other if called is not None and not bool(called.any()) else region
        return Answer(index.nothing(asked.label, reason), reason=reason)
    if named:
        meaning, least = mean_language(field, said, chosen), asked.config.clear if alone else asked.config.present
        answered = float(relevancy(meaning[None], asked.vector, asked.against))
        if answered < least and (alone or asked.best_named < least):
            return Answer(index.nothing(asked.label, other), reason=other)
    # Its region is no union of nodes, so only what it is not can be named: the instances that it mostly covers are it.
    own = index.tree.cut(0.5)
    inside = torch.bincount(own[found.anchor_mask & (own >= 0)], minlength=index.tree.num_nodes)
    whole = torch.bincount(own[own >= 0], minlength=index.tree.num_nodes)
    covered = (2 * inside > whole.clamp_min(1)).nonzero().squeeze(1).tolist()
    rivals = (
        best_nodes(index, asked.vector, asked.negatives, covered, asked.config.nearest) if index.has_language else []
    )
    return Answer(found, tuple(Candidate(f"instance {n}", max(0.0, score), (n,)) for n, score in rivals))


def nothing(
    index: SceneIndex, label: str, nearest: Candidate, floor: float, rest: tuple[Candidate, ...] = ()
) -> Answer:
    """Nothing as an answer, with what came nearest; `called_nearest` gives that its name."""
    reason = nothing_reason(label, nearest, floor)
    empty: Selection = index.nothing(label, reason)
    return Answer(empty, (nearest, *rest), reason)


def nothing_reason(label: str, nearest: Candidate, floor: float) -> str:
    """Why nothing was selected, in words."""
    return f"nothing here is {label!r}: nearest was {nearest.label} at {nearest.score:.2f}, below {floor:.2f}"


def called_nearest(scene: Scene, answer: Answer, floor: float) -> Answer:
    """An answer of nothing, whose nearest candidate is called by its name where a known text names it."""
    if not answer.selection.empty or not answer.candidates or not answer.candidates[0].nodes:
        return answer
    from ag2_ns.query.naming import name_of

    name = name_of(scene, answer.candidates[0].nodes[0])
    if name is None:
        return answer
    nearest = replace(answer.candidates[0], label=name)
    reason = nothing_reason(answer.selection.label, nearest, floor)
    selection = replace(answer.selection, reason=reason)
    return replace(answer, selection=selection, candidates=(nearest, *answer.candidates[1:]), reason=reason)
