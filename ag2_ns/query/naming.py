"""What a thing is called: the text that would have selected exactly it."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.language.relevancy import trusted_relevancy
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.query.text import select_text
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex

CLEAR = 0.5
"""A text names something only where it is more relevant than this: better than the canonical negatives, or where the
encoder does not know those, better than for most of the scene."""


class Names:
    """Names of an index's nodes out of a vocabulary.

    The text that a node answers best is its name if the answer to that text is this node and nothing else. So a name
    can be typed to get the same selection again, things that the vocabulary does not know stay unnamed, and so do parts
    and groups that merely look like something known.

    Args:
        index: the scene.
        vocabulary: T texts.
        embeddings: one per text, by the encoder of the scene's features.
        negatives: of `relevancy.NEGATIVES`, None where the encoder does not know them.
    """

    def __init__(
        self,
        index: SceneIndex,
        vocabulary: Sequence[str],
        embeddings: Float[Tensor, "T D"],
        negatives: Float[Tensor, "K D"] | None,
    ) -> None:
        self.index, self.vocabulary = index, tuple(vocabulary)
        device = index.anchor_xyz.device
        self._embeddings = embeddings.to(device)
        self._negatives = None if negatives is None else negatives.to(device)
        known = index.has_language and self.vocabulary and embeddings.shape[1] == index.language.feature.shape[1]
        self._score = None
        if known:
            rows = [trusted_relevancy(index.language, e, self._negatives)[0] for e in self._embeddings]
            self._score = torch.stack(rows)

    def of(self, node: int) -> tuple[str, float] | None:
        """The name of a node and its relevancy; None where no text clearly is one."""
        if self._score is None:
            return None
        best = int(self._score[:, node].argmax())
        score, embedding = float(self._score[best, node]), self._embeddings[best]
        if score <= CLEAR or not bool((embedding != 0).any()):
            return None
        text = self.vocabulary[best]
        found = select_text(self.index, text, embedding, self._negatives, several=False)
        return (text, score) if found.nodes == (node,) else None


_NAMES: WeakKeyDictionary[TextEncoder, Names] = WeakKeyDictionary()


def names_of_scene(scene: Scene) -> Names | None:
    """The names that the texts known so far give to the scene's nodes; None without any, or without language."""
    index, texts = scene.index, scene.texts
    if index is None or texts is None or not index.has_language:
        return None
    vocabulary = tuple(texts.vocabulary())
    if not vocabulary:
        return None
    known = _NAMES.get(texts)
    if known is None or known.index.tree is not index.tree or known.vocabulary != vocabulary:
        rows = torch.stack([texts.embed(t) for t in vocabulary])
        _NAMES[texts] = known = Names(index, vocabulary, rows, texts.negatives())
    return known


def name_of(scene: Scene, node: int) -> str | None:
    """What a node of the instance tree is called: by the scene's vocabulary, else by a known text that clearly names it
    (see `Names`); None where neither does."""
    if scene.vocabulary is not None and (word := scene.vocabulary.name_of(node)) is not None:
        return word
    names = names_of_scene(scene)
    known = None if names is None else names.of(node)
    return None if known is None else known[0]
