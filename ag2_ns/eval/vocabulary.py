"""Measures of a found vocabulary: how near its words lie, how well they name, and which of them are right (3D-AVS).

TPSS never falls when words are added, so it comes with the number of words and a control: as many nouns at random. For
mIoU each word becomes one class of a closed set, by a table, by an encoder, or by answers of a language model; points
whose word becomes none of them (void) count as missed. The published evaluation drops such points, which flatters a
vocabulary that names little; both numbers are given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.perception.english import forms

VOID = -1
"""A word, or a point, that is of none of the classes."""

CHUNK = 1 << 16
"""Points compared at a time: bounds memory."""

PEOPLE = frozenset({"man", "woman", "child", "boy", "girl", "people", "pedestrian"})
"""LAVE's evaluator counts these as persons."""


def tpss(features: Float[Tensor, "N D"], words: Float[Tensor, "W D"]) -> float:
    """Text-point semantic similarity: 100 times the mean over points of the cosine to their nearest word.

    Points without a feature (zeros) are left out. 0 without words or points.
    """
    unit = torch.nn.functional.normalize
    words = unit(words.float(), dim=1)
    total, count = 0.0, 0
    for part in features.split(CHUNK):
        part = part[(part != 0).any(1)].float()
        if len(part) and len(words):
            total += float((unit(part, dim=1) @ words.to(part).T).amax(1).double().sum())
            count += len(part)
    return 100 * total / count if count else 0.0


def random_tpss(
    features: Float[Tensor, "N D"], nouns: Float[Tensor, "T D"], count: int, draws: int = 10, seed: int = 0
) -> tuple[float, float]:
    """TPSS of `count` nouns at random: mean and standard deviation over some draws."""
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(draws):
        chosen = torch.randperm(len(nouns), generator=generator)[:count]
        values.append(tpss(features, nouns[chosen.to(nouns.device)]))
    values = torch.tensor(values, dtype=torch.double)
    return float(values.mean()), float(values.std()) if draws > 1 else 0.0


@dataclass(frozen=True)
class SegmentationScore:
    """IoU of a closed set of classes."""

    miou: float
    """Mean over the classes that occur in the truth; points of void words are missed."""
    miou_published: float
    """Likewise, with points of void words left out, and absent classes counted as 0."""
    accuracy: float
    """Mean recall of the classes that occur."""
    iou: dict[str, float]
    """By class that occurs."""
    void: float
    """Share of the labelled points whose word is void or that have none."""


def segmentation(
    predicted: Int[Tensor, " N"], truth: Int[Tensor, " N"], classes: Sequence[str], ignored: int = 255
) -> SegmentationScore:
    """Compare classes of points.

    Args:
        predicted: a place in `classes`, or `VOID`.
        truth: a place in `classes`, or `ignored` for points that do not count.
        classes: their names.
        ignored: see above; negative numbers are ignored, too.
    """
    count = len(classes)
    labelled = (truth != ignored) & (truth >= 0)
    predicted, truth = predicted[labelled].cpu(), truth[labelled].cpu()
    column = torch.where(predicted < 0, count, predicted)
    table = (
        torch.bincount(truth * (count + 1) + column, minlength=count * (count + 1)).reshape(count, count + 1).double()
    )
    hit = table[:, :count].diagonal()
    present = table.sum(1) > 0
    union = table.sum(1) + table[:, :count].sum(0) - hit
    iou = hit / union.clamp_min(1)
    kept = table[:, :count]
    dropped = hit / (kept.sum(1) + kept.sum(0) - hit).clamp_min(1)
    recall = hit / table.sum(1).clamp_min(1)
    mean = lambda values: float(values[present].mean()) if bool(present.any()) else 0.0  # noqa: E731
    return SegmentationScore(
        mean(iou),
        float(dropped.mean()) if count else 0.0,
        mean(recall),
        {classes[k]: round(float(iou[k]), 6) for k in range(count) if present[k]},
        float(table[:, count].sum() / table.sum().clamp_min(1)),
    )


def map_by_table(words: Sequence[str], classes: Sequence[str], table: Mapping[str, str]) -> dict[str, int]:
    """The class of each word by a table of word to class; a class's own name means itself, other words are void."""
    place = {name: k for k, name in enumerate(classes)}
    known = {form: place.get(c, VOID) for w, c in table.items() for form in forms(w)}
    known |= {form: k for name, k in place.items() for form in forms(name)}
    return {w: next((known[f] for f in forms(w) if f in known), VOID) for w in words}


def map_by_encoder(
    words: Sequence[str],
    classes: Sequence[str],
    encode: Callable[[list[str]], Float[Tensor, "T D"]],
    least: float = 0.0,
) -> dict[str, int]:
    """The class whose name lies nearest to each word; void below a cosine of `least`, or for a word not known."""
    if not words:
        return {}
    unit = lambda texts: torch.nn.functional.normalize(encode(list(texts)).float(), dim=1)  # noqa: E731
    rows = unit(words)
    best, which = (rows @ unit(classes).T).max(1)
    known = (rows != 0).any(1) & (best >= least)
    exact = {c: k for k, c in enumerate(classes)}
    return {w: exact.get(w, int(which[k]) if known[k] else VOID) for k, w in enumerate(words)}


def map_by_answers(words: Sequence[str], classes: Sequence[str], answers: Mapping[str, str]) -> dict[str, int]:
    """The class of each word by a language model's answers (LAVE): the classes that an answer names in single quotes.

    As published: a class's own name means itself; an answer that names no class, or more than three, is void; of two or
    three the first counts; "woman" and the like are persons where there is such a class.
    """
    place = {name.lower(): k for k, name in enumerate(classes)}
    out = {}
    for word in words:
        if word.lower() in place:
            out[word] = place[word.lower()]
            continue
        named = [q.strip().lower() for q in re.findall(r"'([^']+)'", answers.get(word, ""))]
        found = list(dict.fromkeys(place[q] for q in named if q in place))
        if not found and word in PEOPLE and "person" in place:
            found = [place["person"]]
        out[word] = found[0] if 1 <= len(found) <= 3 else VOID
    return out


def read_mapping(path: Path) -> dict[str, str]:
    """A JSON of word to class, or of word to a language model's answer.

    Raises:
        UserError: something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(w): str(c) for w, c in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a JSON of word to class ({first_line(error)})") from None


@dataclass(frozen=True)
class WordScore:
    """Which words are right."""

    recall: float
    """Share of the true words that the vocabulary has."""
    precision: float
    """Share of the vocabulary's words that are true."""
    missed: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.recall * self.precision / max(self.recall + self.precision, 1e-12)

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self) | {"f1": self.f1}


def word_score(
    found: Sequence[str], true: Sequence[str], same: Callable[[str, str], bool] = lambda word, label: word == label
) -> WordScore:
    """Recall and precision of words.

    Args:
        found: the vocabulary.
        true: what the scene holds.
        same: whether a word names what a label does; by default only the label itself.
    """
    missed = tuple(t for t in dict.fromkeys(true) if not any(same(w, t) for w in found))
    wrong = tuple(w for w in dict.fromkeys(found) if not any(same(w, t) for t in true))
    return WordScore(
        1 - len(missed) / max(len(set(true)), 1), 1 - len(wrong) / len(set(found)) if found else 0.0, missed, wrong
    )
