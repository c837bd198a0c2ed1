"""Which instance every Gaussian belongs to and what it is called, and labels.json, which says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.edit.apply import EditedScene
from ag2_ns.io.atomic import write_atomic
from ag2_ns.language.relevancy import trusted_relevancy
from ag2_ns.ops.boxes import Box
from ag2_ns.scene.scene_index import SceneIndex

UNSURE = 0.5
"""An instance is named by a text that it answers better than this: better than the canonical negatives."""


@dataclass(frozen=True)
class Instance:
    """What is known of one instance."""

    label: str | None = None
    """What it is called; None where nobody has named it."""
    score: float | None = None
    """How sure the label is, 0 to 1."""
    level: float | None = None
    """The granularity at which it is an instance: 0 parts, 0.5 objects, 1 groups."""
    duplicate_of: int | None = None
    """The instance that it is an edited copy of."""


@dataclass(frozen=True)
class Labelled:
    """An instance for every Gaussian of a scene, and what is known of the instances."""

    instance: Int[Tensor, " N"]
    """-1 for none."""
    known: Mapping[int, Instance]
    """At least those that occur."""

    @property
    def next(self) -> int:
        """A number above all instances."""
        return max(self.known, default=-1) + 1

    @property
    def labels(self) -> list[str]:
        """The distinct labels, sorted; `label_id` counts in this list."""
        return sorted({i.label for i in self.known.values() if i.label is not None})

    def label_id(self) -> Int[Tensor, " N"]:
        """The label of every Gaussian as a place in `labels`, -1 for none."""
        place = {label: k for k, label in enumerate(self.labels)}
        table = torch.full((self.next + 1,), -1, dtype=torch.long, device=self.instance.device)
        for number, info in self.known.items():
            if info.label is not None:
                table[number] = place[info.label]
        return table[self.instance]  # -1 reads the last entry, which nobody owns

    def present(self) -> list[int]:
        """The instances that have Gaussians, ascending."""
        return torch.unique(self.instance[self.instance >= 0]).tolist()


def label_scene(
    index: SceneIndex,
    selections: Sequence[Selection] = (),
    level: float = 0.5,
    names: Mapping[int, Instance] | None = None,
) -> Labelled:
    """Instances of the trained Gaussians at a level, where selections override what they select.

    A selected tree node is an instance under its own number. Selections that are no union of nodes (from a box, or
    with something taken away) become one instance each, numbered on from the nodes of the tree.

    Args:
        index: the scene.
        selections: later ones win where they overlap; their labels name their instances.
        level: of all that is not selected.
        names: labels of nodes that no selection names.

    Raises:
        UserError: a level outside 0 to 1.
    """
    instance = index.gaussian_node(level).clone()
    known = {int(n): Instance(level=level) for n in torch.unique(instance[instance >= 0]).tolist()}
    known |= dict(names or {})
    extra = index.tree.num_nodes
    for selection in selections:
        if selection.empty:
            continue
        info = Instance(selection.label, selection.score, level if selection.level is None else selection.level)
        parts = [(n, index.tree.anchors_of(n)[index.gaussian_anchor]) for n in selection.nodes]
        union = torch.zeros_like(selection.gaussian_mask)
        for _, mask in parts:
            union |= mask
        if not parts or not torch.equal(union, selection.gaussian_mask):
            parts, extra = [(extra, selection.gaussian_mask)], extra + 1
        for number, mask in parts:
            instance[mask] = number
            known[number] = info
    return Labelled(instance, known)


def label_edited(labelled: Labelled, scene: EditedScene) -> Labelled:
    """The instances of an edited scene; duplicates are instances of their own, with the label of their original."""
    instance, origins = scene.instances(labelled.instance, labelled.next)
    known = dict(labelled.known)
    for number, origin in origins.items():
        known[number] = replace(known.get(origin, Instance()), duplicate_of=origin)
    return Labelled(instance, known)


def name_instances(
    index: SceneIndex,
    vocabulary: Sequence[str],
    texts: Float[Tensor, "T D"],
    negatives: Float[Tensor, "K D"] | None,
    level: float = 0.5,
) -> dict[int, Instance]:
    """What the instances of a level are called: the text of a vocabulary that each answers best, if any.

    Args:
        index: a scene with language.
        vocabulary: T texts.
        texts: their embeddings.
        negatives: of `relevancy.NEGATIVES`, None where the encoder does not know them.
        level: granularity.

    Raises:
        UserError: the scene has no language, or embeddings of another encoder.
    """
    if not index.has_language:
        raise UserError("--vocabulary: the scene has no language; run `ag2 prepare` with an encoder, then `ag2 lift`")
    if texts.shape[1] != index.language.feature.shape[1]:
        raise UserError("--vocabulary: embedded by another encoder than the one that prepared the scene")
    score = torch.stack([trusted_relevancy(index.language, text, negatives)[0] for text in texts])
    best, which = score.max(0)
    out = {}
    for node in index.tree.instances(level).tolist():
        sure = float(best[node])
        named = sure > UNSURE and bool((texts[which[node]] != 0).any())
        out[node] = Instance(vocabulary[int(which[node])], sure, level) if named else Instance(level=level)
    return out


def subset(labelled: Labelled, mask: Bool[Tensor, " N"]) -> Labelled:
    """The same for chosen Gaussians; all that is known is kept, so that label numbers agree between files."""
    return replace(labelled, instance=labelled.instance[mask])


def write_labels(
    path: str | Path,
    labelled: Labelled,
    anchor: Int[Tensor, " N"],
    boxes: Mapping[int, Box],
    *,
    frame: str,
    files: Iterable[str] = (),
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write labels.json: the list of labels, and for every instance its label, score, level, counts and box.

    Args:
        path: the file.
        labelled: instances of the Gaussians written.
        anchor: the anchor of each.
        boxes: by instance.
        frame: "run" or "world": what coordinates the boxes are in.
        files: names of the files that these labels belong to.
        offset: added to the boxes' centres.
    """
    labels = labelled.labels
    instances: dict[str, Any] = {}
    for number in labelled.present():
        info = labelled.known.get(number, Instance())
        mask = labelled.instance == number
        instances[str(number)] = {
            "label": info.label,
            "label_id": -1 if info.label is None else labels.index(info.label),
            "score": None if info.score is None else round(info.score, 6),
            "level": info.level,
            "duplicate_of": info.duplicate_of,
            "gaussians": int(mask.sum()),
            "anchors": int(torch.unique(anchor[mask]).numel()),
            "box": boxes[number].shifted(offset).to_json() if number in boxes else None,
        }
    far = {"offset": list(offset)} if any(offset) else {}
    content = {"frame": frame, **far, "files": list(files), "labels": labels, "instances": instances}
    write_atomic(Path(path), (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))
