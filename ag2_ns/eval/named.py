"""A named scene against ground truth: words, named mIoU by picture or by point, and TPSS with its control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.eval.tabletop import GroundTruth
from ag2_ns.eval.vocabulary import (
    VOID,
    SegmentationScore,
    WordScore,
    random_tpss,
    segmentation,
    tpss,
    word_score,
)
from ag2_ns.io.view_store import view_stem
from ag2_ns.rendering.overlay import SELECTED, selection_share
from ag2_ns.scene.scene import Scene


@dataclass(frozen=True)
class VocabularyReport:
    """How well a scene names its things."""

    words: WordScore
    segmentation: SegmentationScore
    tpss: float
    random_tpss: tuple[float, float]
    """Of as many random nouns: mean and standard deviation."""
    count: int
    """Words."""

    def as_dict(self) -> dict:
        """For JSON."""
        s = self.segmentation
        return {
            "words": self.words.as_dict(),
            "miou": s.miou,
            "miou_void_left_out": s.miou_published,
            "mean_accuracy": s.accuracy,
            "iou": s.iou,
            "void": s.void,
            "tpss": self.tpss,
            "tpss_random": {"mean": self.random_tpss[0], "deviation": self.random_tpss[1], "words": self.count},
        }


def gaussian_classes(scene: Scene, mapping: Mapping[str, int]) -> Int[Tensor, " N"]:
    """The class of each Gaussian by the name of its lowest instance; `VOID` without one."""
    found = require_vocabulary(scene)
    index = scene.require_index()
    table = torch.tensor([*(mapping.get(w, VOID) for w in found.words), VOID], device=scene.device)
    node = index.tree.anchor_node[index.gaussian_anchor]
    word = torch.where(node >= 0, found.node_word.to(scene.device)[node.clamp_min(0)], -1)
    return table[word]  # -1 reads the last entry


def gaussian_features(scene: Scene) -> Float[Tensor, "N D"]:
    """The language of the object that holds each Gaussian; zeros without one."""
    index = scene.require_index()
    node = index.gaussian_node(0.5)
    rows = index.language.feature.float()[node.clamp_min(0)]
    return rows * (node >= 0)[:, None]


def require_vocabulary(scene: Scene):
    """The scene's names.

    Raises:
        UserError: it has none.
    """
    if scene.vocabulary is None:
        raise UserError(f"{scene.path}: its things have no names; run `ag2 name --load-config {scene.path}` first")
    return scene.vocabulary


@torch.no_grad()
def picture_classes(scene: Scene, gaussian_class: Int[Tensor, " N"], classes: int, view) -> Int[np.ndarray, "H W"]:
    """The class that fills more than half of each pixel of a view; `VOID` where none does."""
    sets = gaussian_class[:, None] == torch.arange(classes, device=gaussian_class.device)
    share, which = selection_share(scene.gaussians, sets, view, scene.rasterizer).max(-1)
    return torch.where(share > SELECTED, which, VOID).cpu().numpy()


def evaluate_pictures(
    scene: Scene,
    truth: GroundTruth,
    classes: Sequence[str],
    class_of_id: Mapping[int, int],
    mapping: Mapping[str, int],
    progress: Callable[[int], None] | None = None,
) -> SegmentationScore:
    """Named mIoU over the pixels of all views that have ground truth.

    Raises:
        UserError: no view has any.
    """
    own = gaussian_classes(scene, mapping)
    predicted, true = [], []
    for done, view in enumerate(scene.views, 1):
        stem = view_stem(view.name)
        if stem in truth.files:
            ids = truth.ids(stem)
            if ids.shape != (view.view.height, view.view.width):
                raise UserError(f"{truth.files[stem]}: is {ids.shape[1]}x{ids.shape[0]}, its camera is of another size")
            table = np.full(int(ids.max()) + 1, 255)
            for number, k in class_of_id.items():
                if number < len(table):
                    table[number] = k
            predicted.append(torch.from_numpy(picture_classes(scene, own, len(classes), view.view)).flatten())
            true.append(torch.from_numpy(table[ids]).flatten())
        if progress is not None:
            progress(done)
    if not true:
        raise UserError(f"{truth.folder}: names no picture of the scene; give the ground truth of its capture")
    return segmentation(torch.cat(predicted), torch.cat(true), classes)


def report_of(
    scene: Scene,
    score: SegmentationScore,
    true_words: Sequence[str],
    same: Callable[[str, str], bool],
    nouns: Float[Tensor, "T D"] | None,
) -> VocabularyReport:
    """All measures together; without vectors of nouns the control is 0."""
    found = require_vocabulary(scene)
    features, vectors = gaussian_features(scene), found.vectors.to(scene.device)
    alike = vectors.shape[1] == features.shape[1] and len(vectors) > 0
    own = tpss(features, vectors) if alike else 0.0
    control = (0.0, 0.0)
    if nouns is not None and len(nouns) and alike:
        control = random_tpss(features, nouns.to(scene.device), len(vectors))
    return VocabularyReport(word_score(found.words, true_words, same), score, own, control, len(found.words))
