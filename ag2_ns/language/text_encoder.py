"""Texts of one scene, embedded by the encoder that its language is by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ag2_ns.core.errors import EncoderGone, MissingLanguage, UnknownWords, UserError
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.view_store import Manifest
from ag2_ns.perception.encoder import Encoder, encoder_of
from ag2_ns.perception.prompts import NEGATIVES


class TextEncoder:
    """The encoder that a scene's language is by, opened when the first text is asked.

    Args:
        data: the scene.
        downscale: of its images.
        device: where the encoder works.
        made_by: gives what the language is by (`Manifest.to_bytes`), as the scene remembers it, or None: the capture
            may have been prepared with another encoder since. (Tables of texts are told apart by name and width only:
            texts may be added.)
    """

    def __init__(
        self,
        data: Path,
        downscale: float = 1,
        device: str = "cpu",
        made_by: Callable[[], UInt8[Tensor, " L"] | None] = lambda: None,
    ) -> None:
        self.data, self.downscale, self.device, self._remembered = Path(data), downscale, device, made_by
        self._lock = RLock()
        self._encoder: Encoder | None = None
        self._made_by = ""
        self._manifest: tuple[Tensor | None, Manifest] | None = None
        self._known: dict[str, Tensor] = {}

    def encoder(self) -> Encoder:
        """The encoder; built once, whichever thread asks first.

        Raises:
            MissingLanguage: the scene has no features.
            EncoderGone: what the encoder needs is gone, or it is another one now.
        """
        with self._lock:
            manifest = self.manifest()
            if manifest is None:
                raise MissingLanguage(
                    f"{self.data}: no language features here; run `{self._prepare()}`, then `ag2 lift`"
                )
            if self._encoder is None or self._made_by != manifest.fingerprint:
                self._encoder, self._made_by, self._known = self._build(manifest), manifest.fingerprint, {}
            return self._encoder

    def _build(self, manifest: Manifest) -> Encoder:
        try:
            encoder = encoder_of(manifest, self.device, self.data)
        except UserError as error:
            raise EncoderGone(str(error)) from error
        differ = sorted(k for k, v in manifest.settings.items() if encoder.settings.get(k, v) != v)
        if differ:
            raise EncoderGone(
                f"{self.data}: the language is by another {manifest.maker} encoder than the one found now (other "
                f"{', '.join(differ)}); put that one back, or run `{self._prepare()}`, then `ag2 lift`"
            )
        return encoder

    def manifest(self) -> Manifest | None:
        """What the language is by: what the scene remembers, else what prepared the capture last; None for none.

        Raises:
            UserError: the capture's features are damaged, where the scene remembers nothing.
        """
        made_by = self._remembered()
        if self._manifest is not None and self._manifest[0] is made_by:
            return self._manifest[1]
        made = None if made_by is None or not len(made_by) else Manifest.from_bytes(made_by)
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
            self._manifest = (made_by, found)
        return found

    def _prepare(self) -> str:
        return FeatureStore.command_for(self.data, self.downscale)

    def embed(self, text: str) -> Float[Tensor, " D"]:
        """The embedding of one text, kept for the next time.

        Raises:
            UserError: an empty text, or one that a closed list of texts does not hold (`UnknownWords`).
        """
        text = text.strip()
        if not text:
            raise UserError("the text is empty; say what to look for, for example --text 'red mug'")
        with self._lock:
            encoder = self.encoder()
            if text not in self._known:
                self._known[text] = encoder.encode_text([text])[0].float()
            return self._known[text]

    def negatives(self) -> Float[Tensor, "K D"] | None:
        """Embeddings of the canonical negatives, or None where the encoder does not know all of them."""
        try:
            rows = torch.stack([self.embed(n) for n in NEGATIVES])
        except UnknownWords:
            return None
        return rows if bool((rows != 0).any(1).all()) else None

    def vocabulary(self) -> list[str]:
        """The texts that are known without loading weights: what a closed list holds, then what was asked before."""
        texts = []
        with suppress(EncoderGone, MissingLanguage):
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
