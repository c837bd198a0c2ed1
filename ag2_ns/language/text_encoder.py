"""Texts of one scene: their embeddings by the encoder that prepared it, and what its instances are called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.view_store import Manifest
from ag2_ns.perception.encoder import Encoder, encoder_of
from ag2_ns.perception.prompts import NEGATIVES
from ag2_ns.query.naming import Names
from ag2_ns.scene.scene_index import SceneIndex


class TextEncoder:
    """The encoder that a scene's language is by, opened when the first text is asked.

    Args:
        data: the scene.
        downscale: of its images.
        device: where the encoder works.
        index: gives the index that texts are asked of, which remembers its encoder: the scene may have been prepared
            with another one since. (Tables of texts are told apart by name and width only: texts may be added.)
    """

    def __init__(
        self,
        data: Path,
        downscale: float = 1,
        device: str = "cpu",
        index: Callable[[], SceneIndex | None] = lambda: None,
    ) -> None:
        self.data, self.downscale, self.device, self._index = data, downscale, device, index
        self._encoder: Encoder | None = None
        self._made_by = ""
        self._manifest: tuple[SceneIndex | None, Manifest] | None = None
        self._known: dict[str, Tensor] = {}
        self._names: Names | None = None

    def encoder(self) -> Encoder:
        """The encoder.

        Raises:
            UserError: the scene has no features, or what the encoder needs is gone.
        """
        manifest = self.manifest()
        if manifest is None:
            raise UserError(f"{self.data}: no language features here; run `{self._prepare()}`, then `ag2 lift`")
        if self._encoder is None or self._made_by != manifest.fingerprint:
            encoder = encoder_of(manifest, self.device, self.data)
            differ = sorted(k for k, v in manifest.settings.items() if encoder.settings.get(k, v) != v)
            if differ:
                raise UserError(
                    f"{self.data}: the language is by another {manifest.maker} encoder than the one found now (other "
                    f"{', '.join(differ)}); put that one back, or run `{self._prepare()}`, then `ag2 lift`"
                )
            self._encoder, self._made_by, self._known = encoder, manifest.fingerprint, {}
        return self._encoder

    def manifest(self) -> Manifest | None:
        """What the language is by: what the index remembers, else what prepared the scene last; None for none.

        Raises:
            UserError: the scene's features are damaged, where the index remembers nothing.
        """
        index = self._index()
        if self._manifest is not None and self._manifest[0] is index:
            return self._manifest[1]
        made = None if index is None or not len(index.encoder) else Manifest.from_bytes(index.encoder)
        try:
            exists = FeatureStore.exists(self.data, self.downscale)
            last = FeatureStore.open(self.data, self.downscale).manifest if exists else None
        except UserError:
            if made is None:
                raise
            last = None
        # The same encoder may lie elsewhere by now.
        found = last if made is None or (last is not None and last.fingerprint == made.fingerprint) else made
        if found is not None:
            self._manifest = (index, found)
        return found

    def _prepare(self) -> str:
        return FeatureStore.command_for(self.data, self.downscale)

    def embed(self, text: str) -> Float[Tensor, " D"]:
        """The embedding of one text, kept for the next time.

        Raises:
            UserError: an empty text, or one that a closed list of texts does not hold.
        """
        text = text.strip()
        if not text:
            raise UserError("the text is empty; say what to look for, for example --text 'red mug'")
        encoder = self.encoder()
        if text not in self._known:
            self._known[text] = encoder.encode_text([text])[0].float()
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
            manifest = self.manifest()
            if manifest is not None and manifest.maker == "table" and manifest.options.get("texts"):
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
