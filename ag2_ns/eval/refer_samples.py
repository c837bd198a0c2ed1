"""What a referring field trains on: sentences with masks of what they mean, in views that show it.

Masks are exact (ids of a ground truth, or those of Ref-LERF), pseudo (chosen among the prepared masks of the view by
confidence-weighted IoU, as ReferSplat chooses among a detector's), or drawn from the solver's own answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.eval.tabletop import MIN_PIXELS
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.referring import ReferringMask, ReferringSentence
from ag2_ns.io.view_store import view_stem
from ag2_ns.query.sentence.meaning import name_fit
from ag2_ns.query.sentence.parse import parse
from ag2_ns.query.sentence.query import Sentence
from ag2_ns.query.sentence.solve import NeedsView
from ag2_ns.rendering.overlay import SELECTED, selection_share
from ag2_ns.scene.scene import Scene
from ag2_ns.splat.refer_field import pick_pseudo_mask
from ag2_ns.splat.refer_training import Sample

CANDIDATES = 8
"""Prepared masks of a view that compete for a sentence: those that fit its noun best."""


def shrunk(view: View, factor: int) -> View:
    """A camera with pictures smaller by a whole factor; sizes are rounded down."""
    K = view.K.clone()
    K[:2] = K[:2] / factor
    return View(view.viewmat, K, view.width // factor, view.height // factor)


def shrunk_mask(mask: Bool[Tensor, "H W"], factor: int) -> Bool[Tensor, "h w"]:
    """A mask for `shrunk`: every so manieth pixel."""
    height, width = (n // factor * factor for n in mask.shape)
    return mask[factor // 2 : height : factor, factor // 2 : width : factor]


def exact_samples(
    scene: Scene,
    sentences: Sequence[ReferringSentence],
    ids: Mapping[str, Int[np.ndarray, "H W"]],
    each: int = 8,
    factor: int = 1,
) -> list[Sample]:
    """Training sentences in up to `each` training views that show what they mean, with the ids' masks.

    Args:
        scene: its cameras.
        sentences: those of the split "train" are taken.
        ids: of views, by image name without suffix.
        each: views of a sentence that is not bound to one, evenly spread.
        factor: masks and cameras are made smaller by this.
    """
    views = {view_stem(v.name): v for v in scene.of_split("train")}
    out = []
    for sentence in sentences:
        if sentence.split != "train" or not sentence.wanted:
            continue
        shown = []
        for name in [sentence.view] if sentence.view else list(views):
            if name in views and name in ids:
                mask = np.isin(ids[name], sentence.wanted)
                if mask.sum() >= MIN_PIXELS * mask.size / (640 * 480):
                    shown.append((name, mask))
        for name, mask in _spread(shown, each):
            mask = shrunk_mask(torch.from_numpy(mask), factor)
            out.append(Sample(shrunk(views[name].view, factor), name, sentence.text, sentence.wanted, mask))
    return out


def ref_lerf_samples(scene: Scene, masks: Sequence[ReferringMask], factor: int = 1) -> list[Sample]:
    """The training sentences of Ref-LERF with the masks that its folder holds; those without are left out."""
    views = {view_stem(v.name): v for v in scene.views}
    out = []
    for entry in masks:
        if entry.split == "train" and entry.mask is not None and entry.frame in views:
            mask = shrunk_mask(torch.from_numpy(entry.read()), factor)
            view = shrunk(views[entry.frame].view, factor)
            if mask.shape == (view.height, view.width):
                out += [Sample(view, entry.frame, text, entry.category, mask) for text in entry.sentences]
    return out


def pseudo_samples(scene: Scene, samples: Sequence[Sample], factor: int = 1) -> list[Sample]:
    """The samples with masks chosen among the prepared masks of their view; those without candidates are left out.

    A candidate's confidence is how well it fits the sentence's noun and colour by the scene's encoder, which stands for
    the detector of the published method.

    Raises:
        UserError: the capture has no masks or no features, or an encoder of colours only.
    """
    if scene.source is None or scene.texts is None:
        raise UserError("pseudo masks need the capture that the scene was made from; use --masks solver")
    masks = MaskStore.open(scene.source.data, scene.source.downscale)
    features = FeatureStore.open(scene.source.data, scene.source.downscale)
    keys = {view_stem(v.name): v.key for v in scene.views}
    names = scene.texts.vocabulary()
    out = []
    for sample in samples:
        key = keys[sample.key]
        candidates, rows = masks.read(key), features.read(key, masks.identity(key)).float()
        if len(candidates) == 0:
            continue
        confidence = _confidence(scene, sample.text, rows, names)
        best = confidence.argsort(descending=True)[:CANDIDATES]
        dense = torch.stack([shrunk_mask(m, factor) for m in candidates.dense()[best]])
        if float(confidence[best].max()) > 0.05 and dense.shape[1:] == sample.mask.shape:
            chosen = pick_pseudo_mask(dense, confidence[best])
            out.append(Sample(sample.view, sample.key, sample.text, sample.thing, dense[chosen]))
    return out


def _confidence(scene: Scene, text: str, rows: Tensor, names: Sequence[str]) -> Tensor:
    """How well each mask of a view fits the target of a sentence, 0 to 1."""
    target = parse(text).targets[0]
    colour = next((a.word for a in target.attributes if a.kind == "colour" and not a.negated), "")
    wanted = f"{colour} {target.noun}".strip()
    if not wanted:
        return torch.full((len(rows),), 0.5)
    if names:
        fit = torch.from_numpy(name_fit(rows, torch.stack([scene.texts.embed(n) for n in names])))
        words = set(wanted.split())
        about = [k for k, n in enumerate(names) if words <= set(n.lower().split())]
        return fit[:, about].amax(1) if about else torch.zeros(len(rows))
    vector = torch.nn.functional.normalize(scene.texts.embed(wanted), dim=0)
    cosine = torch.nn.functional.normalize(rows, dim=1) @ vector
    spread = (cosine.max() - cosine.median()).clamp_min(1e-6)
    return ((cosine - cosine.median()) / spread).clamp(0, 1)


def solver_samples(scene: Scene, samples: Sequence[Sample]) -> list[Sample]:
    """The samples with masks drawn from what the solver answers; those that it does not answer are left out."""
    views = {view_stem(v.name): v.view for v in scene.views}
    known: dict[tuple[str, str], Bool[Tensor, " N"] | None] = {}
    out = []
    for sample in samples:
        key = (sample.text, "")
        if key not in known:
            try:
                known[key] = Sentence(sample.text).reply(scene, None).selection.gaussian_mask
            except NeedsView:
                key = (sample.text, sample.key)
                known[key] = Sentence(sample.text, views[sample.key]).reply(scene, None).selection.gaussian_mask
        chosen = known[key]
        if chosen is not None and bool(chosen.any()):
            out.append(_drawn(scene, sample, chosen))
    return out


def rendered_samples(scene: Scene, samples: Sequence[Sample], chosen: Mapping[str, Bool[Tensor, " N"]]) -> list[Sample]:
    """The samples with masks drawn from the Gaussians that a trained field selects for each text: the second stage."""
    return [_drawn(scene, s, chosen[s.text]) for s in samples if bool(chosen[s.text].any())]


def _drawn(scene: Scene, sample: Sample, chosen: Bool[Tensor, " N"]) -> Sample:
    view = sample.view.to(scene.device)
    share = selection_share(scene.gaussians, chosen[:, None], view, scene.rasterizer)[..., 0]
    return Sample(sample.view, sample.key, sample.text, sample.thing, (share > SELECTED).cpu())


def _spread(items: list, count: int) -> list:
    if len(items) <= count:
        return items
    return [items[round(k * (len(items) - 1) / max(count - 1, 1))] for k in range(count)]
