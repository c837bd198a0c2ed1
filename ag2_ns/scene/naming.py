"""A scene that names its things: tags of its views, the words that its encoder knows, and names for its instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ag2_ns.core.errors import MissingLanguage, UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import NamedView
from ag2_ns.grouping.visibility import visible_share
from ag2_ns.io.view_store import data_folder
from ag2_ns.language.vocabulary import DEFAULT, SHOWN, Vocabulary, VocabularyConfig, find_vocabulary
from ag2_ns.perception.tagger import Tagger, Tags, embed_words
from ag2_ns.rendering import render
from ag2_ns.rendering.overlay import to_uint8
from ag2_ns.scene.scene import Scene

Embed = Callable[[list[str]], tuple[list[str], Float[Tensor, "T D"]]]
"""The words that are known, of some, and their vectors."""


@torch.no_grad()
def vocabulary_of(
    scene: Scene,
    tagger: Tagger,
    *,
    words: Sequence[str] = (),
    embed: Embed | None = None,
    config: VocabularyConfig = DEFAULT,
    progress: Callable[[int], None] | None = None,
) -> tuple[Vocabulary, list[Tags]]:
    """Name the instances of a scene.

    Args:
        scene: with language.
        tagger: says what its views show.
        words: further words that any view may show.
        embed: vectors of words, default by the scene's own encoder.
        config: thresholds.
        progress: called with the number of views tagged.

    Returns:
        The vocabulary, and what the tagger said of each training view.

    Raises:
        MissingLanguage: the scene has none.
        UserError: no view, or what the tagger complains of.
    """
    index = scene.require_index()
    if not index.has_language or (scene.texts is None and embed is None):
        raise MissingLanguage("this scene has no language: run `ag2 prepare` with an encoder, then `ag2 lift`")
    views = scene.of_split("train") or list(scene.views)
    if not views:
        raise UserError(f"{scene.path}: has no cameras, so nothing can be said of its views; lift it with --data")
    require = getattr(tagger, "require_views", None)
    if require is not None:
        require([v.name for v in views])
    shown = visible_share(scene.rasterizer, scene.gaussians, index.gaussian_anchor, index.tree, [v.view for v in views])
    tags = []
    for i, view in enumerate(views):
        tags.append(tagger.tag(*_inputs(scene, tagger, view, shown[:, i])))
        if progress is not None:
            progress(i + 1)
    said = tags if not words else [[*t, *((w, 0.5) for w in words)] for t in tags]
    candidates = list(dict.fromkeys(w for view in said for w, _ in view))
    if embed is None:
        encoder = scene.texts.encoder()
        embed = lambda listed: embed_words(encoder, listed)  # noqa: E731
        config = replace(config, least_cosine=max(config.least_cosine, getattr(encoder, "naming_cosine", -1.0)))
    known, vectors = embed(candidates)
    negatives = None if scene.texts is None else scene.texts.negatives()
    found = find_vocabulary(index.tree, index.language, said, known, vectors, negatives, shown, config)
    return found, tags


def named(scene: Scene, vocabulary: Vocabulary) -> Scene:
    """The scene with names."""
    return replace(scene, vocabulary=vocabulary)


def _inputs(
    scene: Scene, tagger: Tagger, view: NamedView, shown: Float[Tensor, " R"]
) -> tuple[np.ndarray, str, MaskSet, Tensor]:
    """What a tagger is given: the picture where it needs one, and the features of the instances that the view shows."""
    language = scene.index.language
    there = (shown > SHOWN) & (language.trust > 0)
    empty = torch.zeros(0, dtype=torch.long)
    masks = MaskSet(view.view.height, view.view.width, empty, empty, torch.zeros(0))
    image = picture_of(scene, view) if getattr(tagger, "needs_image", False) else np.zeros((1, 1, 3), np.uint8)
    return image, view.name, masks, language.feature[there].float()


def picture_file(scene: Scene, view: NamedView) -> Path | None:
    """The photograph of a view, if it is still there."""
    if scene.source is None:
        return None
    folder, suffix = data_folder(scene.source.data), Path(view.name).suffix
    names = (view.name, f"images/{view.name}", f"{view.key}{suffix}", f"images/{view.key}{suffix}")
    return next((p for p in (*(folder / n for n in names), Path(view.name)) if p.is_file()), None)


def picture_of(scene: Scene, view: NamedView) -> UInt8[np.ndarray, "H W 3"]:
    """The photograph of a view; drawn from the scene where the file is gone."""
    path = picture_file(scene, view)
    if path is not None:
        with suppress(OSError, SyntaxError), Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    return to_uint8(render(scene.gaussians, view.view, scene.rasterizer, depth=False).rgb)
