"""Vectors that somebody else computed: per-mask features from files, text embeddings from a JSON table.

The files are AG2aussian's `clip_features/<image>.pt` (half M x D, row i for mask i) and OpenGaussian's
`text_features.json` (text to D numbers).
"""

from __future__ import annotations

import difflib
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.core.errors import EncoderGone, UnknownWords, UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.published_files import read_clip_features
from ag2_ns.io.view_store import file_hash
from ag2_ns.perception.encoder import register_encoder
from ag2_ns.perception.english import DETERMINERS, LINKS, forms
from ag2_ns.perception.prompts import NEGATIVES


@register_encoder("table")
class TableEncoder:
    """Looks vectors up.

    Args:
        features: folder with one `.pt` per image, or None when only texts are asked for.
        texts: JSON file text to vector, or None when only images are encoded.
    """

    encodes_pictures = False
    """Vectors of pictures that are in no file cannot be looked up."""

    def __init__(self, features: Path | str | None = None, texts: Path | str | None = None):
        self.features = None if features is None else Path(features)
        self.texts = None if texts is None else Path(texts)
        if self.features is None and self.texts is None:
            raise UserError("the table encoder needs a folder of features (--clip-features-dir) or a text table")
        if self.features is not None and not self.features.is_dir():
            raise UserError(f"{self.features}: no such folder of features; give one with --clip-features-dir")
        self.settings = {"features": None if self.features is None else self.features.name, "dim": self.dim}
        self.options = {
            "features": None if features is None else os.path.abspath(features),
            "texts": None if texts is None else os.path.abspath(texts),
        }

    @cached_property
    def dim(self) -> int:
        """Length of the vectors, from the text table or else from the first feature file."""
        if self.texts is not None:
            return self._table[1].shape[1]
        files = sorted(self.features.rglob("*.pt"))
        if not files:
            raise UserError(f"{self.features}: holds no .pt files; put one per image there or use another --encoder")
        return read_clip_features(files[0]).shape[1]

    def encode_image(self, image: np.ndarray, masks: MaskSet, image_name: str) -> Float[Tensor, "M D"]:
        """The features stored for an image's masks, normalised.

        Raises:
            UserError: no or an unreadable file, or another number of rows than masks.
        """
        if self.features is None:
            raise UserError("the table encoder was made for texts only; give the features' folder")
        path = self.features / f"{image_name}.pt"
        rows = read_clip_features(path).float()
        if rows.shape[0] != len(masks):
            raise UserError(
                f"{path}: {rows.shape[0]} rows of features for {len(masks)} masks; they must come from the same run "
                "(the pair masks_sparse + clip_features)"
            )
        if len(rows) and rows.shape[1] != self.dim:
            raise UserError(f"{path}: vectors of length {rows.shape[1]}, elsewhere {self.dim}; export them anew")
        return normalize(rows.reshape(-1, self.dim), dim=1)

    def source(self, image_name: str) -> str:
        """What the features of one image are read from, so that a changed file is read again."""
        path = None if self.features is None else self.features / f"{image_name}.pt"
        return file_hash(path) if path is not None and path.is_file() else ""

    def encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        """The vectors stored for these texts.

        Case, blanks, articles and plural make no difference ("the green books" is "green book"), and words that occur
        together in a single text of the table stand for it ("duck" for "rubber duck").

        Raises:
            UserError: a text is not in the table; the message names the nearest that are.
        """
        _, vectors = self._table
        rows = [vectors[self._row(text)] for text in texts]
        return normalize(torch.stack(rows), dim=1) if rows else torch.zeros(0, self.dim)

    def known_texts(self) -> list[str]:
        """Every text in the table."""
        return list(self._table[0])

    def _row(self, text: str) -> int:
        """The row of a text in the table."""
        names, _ = self._table
        key = _key(text)
        if key in names:
            return names[key]
        for form in forms(text):
            if form in self._forms:
                return self._forms[form]
        for form in forms(text):
            words = set(form.split()) - DETERMINERS - LINKS
            among = [row for known, row in self._forms.items() if words and words <= set(known.split())]
            if len(set(among)) == 1:
                return among[0]
        things = [name for name in names if name not in NEGATIVES]
        near = difflib.get_close_matches(key, things, n=5, cutoff=0.4)
        shared = [n for n in things if set(n.split()) & set(key.split())]
        near = list(dict.fromkeys(shared + near))  # a word in common says more than letters in common
        raise UnknownWords(text, near[:5], things)

    @cached_property
    def _forms(self) -> dict[str, int]:
        """Row of each form of the texts that name things; the canonical negatives name nothing."""
        out: dict[str, int] = {}
        for name, row in self._table[0].items():
            if name not in NEGATIVES:
                for form in forms(name):
                    out.setdefault(form, row)
        return out

    @cached_property
    def _table(self) -> tuple[dict[str, int], Float[Tensor, "T D"]]:
        """Row of each text, and the vectors."""
        if self.texts is None:
            raise EncoderGone(
                "these features came without texts; put text_features.json beside the scene or give --text-features"
            )
        try:
            content = json.loads(self.texts.read_text())
            vectors = torch.tensor([list(map(float, row)) for row in content.values()])
            names = {_key(text): index for index, text in enumerate(content)}
        except FileNotFoundError:
            raise EncoderGone(
                f"{self.texts}: no such file; give a JSON of text to vector with --text-features"
            ) from None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise EncoderGone(f"{self.texts}: not a JSON of text to vector ({error})") from None
        if vectors.dim() != 2 or not len(vectors):
            raise EncoderGone(f"{self.texts}: holds no vectors; expected a JSON of text to vector")
        return names, vectors


def _key(text: str) -> str:
    """Texts compare without case, surplus blanks and the marks that end a sentence."""
    return " ".join(text.lower().rstrip(" .,;:!?").split())
