"""Texts of one scene: their embeddings by the encoder that prepared it, and what its instances are called."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.data.feature_store import FeatureStore
from ag2_ns.errors import UserError
from ag2_ns.graph.scene_index import SceneIndex
from ag2_ns.naming import Names
from ag2_ns.perception.encoder import Encoder, encoder_of
from ag2_ns.query.relevancy import NEGATIVES


class TextEncoder:
    """The encoder that prepared a scene, opened when the first text is asked."""

    def __init__(self, data: Path, downscale: float = 1, device: str = "cpu") -> None:
        self.data, self.downscale, self.device = data, downscale, device
        self._encoder: Encoder | None = None
        self._known: dict[str, Tensor] = {}
        self._names: Names | None = None

    def encoder(self) -> Encoder:
        """The encoder.

        Raises:
            UserError: the scene has no features, or what the encoder needs is gone.
        """
        if self._encoder is None:
            if not FeatureStore.exists(self.data, self.downscale):
                raise UserError(
                    f"{self.data}: no language features here; run `ag2 prepare {self.data}`, then `ag2 lift`"
                )
            manifest = FeatureStore.open(self.data, self.downscale).manifest
            self._encoder = encoder_of(manifest, self.device, self.data)
        return self._encoder

    def embed(self, text: str) -> Float[Tensor, " D"]:
        """The embedding of one text, kept for the next time.

        Raises:
            UserError: an empty text, or one that a closed list of texts does not hold.
        """
        text = text.strip()
        if not text:
            raise UserError("the text is empty; say what to look for, for example --text 'red mug'")
        if text not in self._known:
            self._known[text] = self.encoder().encode_text([text])[0].float()
        return self._known[text]

    def negatives(self) -> Float[Tensor, "K D"] | None:
        """Embeddings of the canonical negatives, or None where the encoder does not know all of them."""
        try:
            rows = torch.stack([self.embed(n) for n in NEGATIVES])
        except UserError:
            return None
        return rows if bool((rows != 0).any(1).all()) else None

    def vocabulary(self) -> list[str]:
        """The texts that are known without loading weights: what a closed list holds, then what was asked before."""
        texts = []
        with suppress(UserError):
            if FeatureStore.exists(self.data, self.downscale):
                manifest = FeatureStore.open(self.data, self.downscale).manifest
                if manifest.maker == "table" and manifest.options.get("texts"):
                    texts = self.encoder().known_texts()
        listed = {t.lower() for t in (*texts, *NEGATIVES)}
        asked = [t for t in list(self._known) if t.lower() not in listed]
        # A person who types "red mug" slowly has asked for "red", too.
        asked = [t for t in asked if not any(other != t and other.startswith(t) for other in asked)]
        return [t for t in texts if t not in NEGATIVES] + asked

    def example(self) -> str:
        """A text to try: the first that is known, the table on which everything stands aside, or else a colour."""
        return next((text for text in self.vocabulary() if text != "table"), "red")

    def name(self, index: SceneIndex, node: int) -> str | None:
        """What a node of the instance tree is called; None where no known text clearly names it (see `Names`)."""
        texts = tuple(self.vocabulary())
        if not texts or not index.has_language:
            return None
        if self._names is None or self._names.index is not index or self._names.vocabulary != texts:
            self._names = Names(index, texts, torch.stack([self.embed(t) for t in texts]), self.negatives())
        known = self._names.of(node)
        return None if known is None else known[0]
