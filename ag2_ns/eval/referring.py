"""Sentences against what they mean: right object, visible and amodal IoU, Acc@0.5, and the answers to absent targets.

A sentence without an answer counts 0 everywhere. Right means that exactly the wanted things are selected: a thing is
selected where more than half of its pixels, over all views, are. N-acc is the share of absent targets for which nothing
is answered, T-acc the share of present ones for which something is (GRES, Liu et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.eval.tabletop import MIN_PIXELS
from ag2_ns.io.referring import ReferringSentence
from ag2_ns.rendering import render
from ag2_ns.rendering.base import Rasterizer
from ag2_ns.rendering.overlay import SELECTED, selection_share


def stratum(share: float) -> str:
    """What a view is called that shows this share of a thing: none of it, less than half, the rest."""
    return "hidden" if share <= 0 else "half hidden" if share < 0.5 else "visible"


BATCH = 24
"""Sets that are drawn at once."""


@dataclass
class SentenceResult:
    """How one sentence did."""

    sentence: ReferringSentence
    answered: bool
    right: bool
    """Whether exactly the wanted things are selected."""
    score: float
    seconds: float
    iou: list[float] = field(default_factory=list)
    """In every view that shows the wanted things."""
    amodal: list[float] = field(default_factory=list)
    """In every view, against what the things would cover if nothing stood before them."""
    strata: list[str] = field(default_factory=list)
    """Of each view in `amodal`."""
    reason: str = ""

    @property
    def absent(self) -> bool:
        """Whether nothing is meant."""
        return not self.sentence.wanted

    @property
    def miou(self) -> float:
        """Mean over the views; of an absent target 1 for no answer and 0 for any."""
        if self.absent:
            return float(not self.answered)
        return float(np.mean(self.iou)) if self.iou else 0.0

    @property
    def amodal_iou(self) -> float:
        """Likewise."""
        if self.absent:
            return float(not self.answered)
        return float(np.mean(self.amodal)) if self.amodal else 0.0


@dataclass(frozen=True)
class ReferringReport:
    """All sentences of a scene."""

    results: list[SentenceResult]

    def by(self, key: Callable[[SentenceResult], Sequence[str]]) -> dict[str, dict[str, float]]:
        """Figures by group; a result may belong to several."""
        groups: dict[str, list[SentenceResult]] = {}
        for result in self.results:
            for name in key(result):
                groups.setdefault(name, []).append(result)
        return {name: figures(group) for name, group in groups.items()}

    def as_dict(self) -> dict[str, Any]:
        """Figures over all, by kind, by what was held out, by stratum, and every sentence."""
        return {
            "all": figures(self.results),
            "by_kind": self.by(lambda r: [r.sentence.kind or "any"]),
            "by_held_out": self.by(lambda r: r.sentence.held_out or ["nothing"]),
            "by_stratum": strata_figures(self.results),
            "sentences": [
                {
                    "text": r.sentence.text,
                    "kind": r.sentence.kind,
                    "wanted": list(r.sentence.wanted),
                    "answered": r.answered,
                    "right": r.right,
                    "iou": round(r.miou, 4),
                    "amodal_iou": round(r.amodal_iou, 4),
                    "score": round(r.score, 4),
                    "seconds": round(r.seconds, 5),
                    "reason": r.reason,
                }
                for r in self.results
            ],
        }


def figures(results: Sequence[SentenceResult]) -> dict[str, float]:
    """Means over sentences."""
    present, absent = [r for r in results if not r.absent], [r for r in results if r.absent]
    mean = lambda values: float(np.mean(values)) if len(values) else float("nan")  # noqa: E731
    return {
        "sentences": len(results),
        "right": mean([r.right for r in results]),
        "miou": mean([r.miou for r in present]),
        "amodal_miou": mean([r.amodal_iou for r in present if r.amodal]),
        "acc50": mean([r.miou > 0.5 for r in present]),
        "n_acc": mean([not r.answered for r in absent]),
        "t_acc": mean([r.answered for r in present]),
        "milliseconds": 1000 * float(np.median([r.seconds for r in results])) if results else float("nan"),
    }


def strata_figures(results: Sequence[SentenceResult]) -> dict[str, dict[str, float]]:
    """Mean amodal IoU over pairs of sentence and view, by how much the view shows of what is wanted."""
    values: dict[str, list[float]] = {}
    for result in results:
        for name, value in zip(result.strata, result.amodal):
            values.setdefault(name, []).append(value)
    return {name: {"pairs": len(v), "amodal_miou": float(np.mean(v))} for name, v in sorted(values.items())}


def evaluate_sentences(
    gaussians: Gaussians,
    sentences: Sequence[ReferringSentence],
    selections: Sequence[Selection | None],
    views: Sequence[tuple[View, Int[np.ndarray, "H W"], Mapping[int, Bool[np.ndarray, "H W"]] | None]],
    rasterizer: Rasterizer,
    *,
    seconds: Sequence[float] | None = None,
    reasons: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ReferringReport:
    """Draw every selection in every view and compare with the ids.

    Args:
        gaussians: the scene.
        sentences: S sentences.
        selections: what each selects; None or an empty one is a missing answer.
        views: cameras with their ids (0: nothing), and masks of whole things by id where they are known.
        rasterizer: a backend for the Gaussians' device.
        seconds: that each sentence took.
        reasons: that each answer gave.
        progress: called with the number of views done.
    """
    nothing = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
    chosen = [nothing if s is None else s.gaussian_mask.to(nothing.device) for s in selections]
    keys = [np.packbits(c.cpu().numpy()).tobytes() for c in chosen]
    distinct = {key: k for k, key in reversed(list(enumerate(keys)))}
    columns = list(distinct.values())
    place = {key: n for n, key in enumerate(distinct)}
    which = [place[key] for key in keys]
    results = [
        SentenceResult(
            sentence,
            s is not None and not s.empty,
            False,
            0.0 if s is None else float(s.score),
            0.0 if seconds is None else seconds[k],
            reason="" if reasons is None else reasons[k],
        )
        for k, (sentence, s) in enumerate(zip(sentences, selections))
    ]
    most = max((int(ids.max(initial=0)) for _, ids, _ in views), default=0) + 1
    covered, total = np.zeros((len(columns), most)), np.zeros(most)
    for done, (view, ids, amodal) in enumerate(views, 1):
        drawn, alone = _masks(gaussians, [chosen[c] for c in columns], view, rasterizer, amodal is not None)
        total += np.bincount(ids.ravel(), minlength=most)[:most]
        for n in range(len(columns)):
            covered[n] += np.bincount(ids[drawn[n]], minlength=most)[:most]
        least = MIN_PIXELS * ids.size / (640 * 480)
        for result, n in zip(results, which):
            wanted = result.sentence.wanted
            if not wanted:
                continue
            target = np.isin(ids, wanted)
            if target.sum() >= least:
                result.iou.append(_iou(drawn[n], target))
            if amodal is not None:
                whole = (
                    np.any([amodal[i] for i in wanted if i in amodal], axis=0) if wanted else np.zeros(ids.shape, bool)
                )
                if np.ndim(whole) == 2 and whole.sum() >= least:
                    share = float((target & whole).sum()) / float(whole.sum())
                    result.amodal.append(_iou(alone[n], whole))
                    result.strata.append(stratum(share))
        if progress is not None:
            progress(done)
    selected = covered > 0.5 * np.maximum(total, 1)[None]
    for result, n in zip(results, which):
        found = set(np.flatnonzero(selected[n])) - {0}
        result.right = found == set(result.sentence.wanted) if result.answered else not result.sentence.wanted
        if result.absent:
            result.right = not result.answered
    return ReferringReport(results)


def _masks(
    gaussians: Gaussians, chosen: Sequence[Bool[torch.Tensor, " N"]], view: View, rasterizer: Rasterizer, whole: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Each set as the view shows it, and (with `whole`) as it would show it alone."""
    drawn, alone = [], []
    for start in range(0, len(chosen), BATCH):
        part = torch.stack(list(chosen[start : start + BATCH]), 1)
        drawn += list((selection_share(gaussians, part, view, rasterizer) > SELECTED).permute(2, 0, 1).cpu().numpy())
    for mask in chosen if whole else ():
        if bool(mask.any()):
            opacity = render(gaussians[mask], view, rasterizer, depth=False).alpha
            alone.append((opacity.squeeze(-1) > SELECTED).cpu().numpy())
        else:
            alone.append(np.zeros((view.height, view.width), bool))
    return drawn, alone


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
