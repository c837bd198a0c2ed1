"""What a tagger is, and the list of those there are: from a picture to weighted words for what it shows.

Adding one is one class: give it the members of `Tagger` and decorate it with `@register_tagger("name")` (or add a
"module:Class" line below).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.caption_tags import noun_tags, tags_of
from ag2_ns.perception.encoder import Encoder
from ag2_ns.perception.nouns import NOUNS
from ag2_ns.perception.palette import BASIC
from ag2_ns.perception.segmenter import _registrar, resolve

T = TypeVar("T", bound=type)

Tags = list[tuple[str, float]]
"""Words for what a picture shows, each with a positive weight: how often, or how surely, it was named."""


@runtime_checkable
class Tagger(Protocol):
    """Picture to words. One that looks at pixels says so with an attribute `needs_image = True`; others get none."""

    name: str
    """As registered."""
    settings: dict
    """JSON: everything that changes the tags."""

    def tag(self, image: np.ndarray, image_name: str, masks: MaskSet, features: Float[Tensor, "M D"]) -> Tags:
        """Words for one picture.

        Args:
            image: uint8 [H, W, 3].
            image_name: its view's name.
            masks: what the segmenter found in it; may be empty.
            features: the encoder's vectors of the masks, 0 x 0 where there are none.
        """
        ...


TAGGERS: dict[str, str | type] = {
    "captioner": "ag2_ns.perception.captioner:CaptionerTagger",
    "simulated": "ag2_ns.synthetic.captions:SimulatedTagger",
}
"""Classes, or "module:Class" imported on first use, by name."""


def register_tagger(name: str) -> Callable[[T], T]:
    """Class decorator: make a tagger available as `--tagger NAME`."""
    return _registrar(TAGGERS, name)


def make_tagger(name: str, **options: Any) -> Tagger:
    """Build a tagger by name.

    Raises:
        UserError: no such tagger, or its own complaints (a missing file, ...).
    """
    return resolve(TAGGERS, name, "tagger")(**options)


@register_tagger("files")
class FilesTagger:
    """Captions or tags that any captioner wrote, as JSON by view, from one or several files.

    A view's entry is a caption, a list of captions, or tables of them by crop or sector (as 3D-AVS writes); or weighted
    tags, `{tag: weight}` or `[[tag, weight], …]`. Views are found by name, with or without folder and suffix. What one
    cloud's sectors or pillars are said to hold (`ag2 smap name`) is said of every view.

    Args:
        paths: the JSON files. A view's words of each file are weighed relative to the largest there, then joined.
        nouns: the nouns of a caption, default rules (see `caption_tags`).
    """

    def __init__(self, paths: Path | str | Sequence[Path | str], nouns: Callable[[str], list[str]] = noun_tags):
        paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self._files = [_Captions(Path(path), nouns) for path in paths]
        self.settings = {"file": ", ".join(Path(path).name for path in paths)}

    def tag(self, image: np.ndarray, image_name: str, masks: MaskSet, features: Float[Tensor, "M D"]) -> Tags:
        """The tags of one view; none where no file names it."""
        found = [file.tags(image_name) for file in self._files]
        if len(found) == 1:
            return found[0]
        joined: dict[str, float] = {}
        for tags in found:
            top = max((weight for _, weight in tags), default=1.0)
            for word, weight in tags:
                joined[word] = joined.get(word, 0.0) + weight / top
        return list(joined.items())

    def require_views(self, names: Sequence[str]) -> None:
        """Refuse captions of other pictures.

        Raises:
            UserError: a file names none of the views.
        """
        for file in self._files:
            file.require_views(names)


class _Captions:
    """One file of captions."""

    def __init__(self, path: Path, nouns: Callable[[str], list[str]]):
        self.path, self._nouns = path, nouns
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file of captions; give a JSON of view to caption") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a JSON of view to caption ({first_line(error)})") from None
        if isinstance(content, dict) and isinstance(content.get("captions"), dict):
            content = content["captions"]
        if not isinstance(content, dict) or not content:
            raise UserError(f"{path}: names no view; give a JSON of view to caption, or to a list of captions")
        self._entries = {str(name): entry for name, entry in content.items()}
        self._stems = {_stem(name): name for name in self._entries}
        self._last = {}
        for name in self._entries:
            self._last.setdefault(_stem(name).rsplit("/", 1)[-1], []).append(name)

    def tags(self, name: str) -> Tags:
        """The tags of one view; none where the file does not name it."""
        entry = self.entry(name)
        return [] if entry is None else self._read(entry, name)

    def entry(self, image_name: str) -> object | None:
        """What the file says of one view."""
        stem = _stem(image_name)
        if stem in self._stems:
            return self._entries[self._stems[stem]]
        by_last = self._last.get(stem.rsplit("/", 1)[-1], [])
        if len(by_last) == 1:
            return self._entries[by_last[0]]
        clouds = [entry for entry in self._entries.values() if _of_points(entry)]
        return clouds[0] if len(clouds) == 1 else None

    def require_views(self, names: Sequence[str]) -> None:
        """Refuse captions of other pictures.

        Raises:
            UserError: the file names none of the views.
        """
        if not any(self.entry(name) is not None for name in names):
            theirs = ", ".join(list(self._entries)[:3])
            raise UserError(
                f"{self.path}: names other pictures ({theirs}, …) than the scene ({', '.join(names[:3])}, …); give the "
                "captions of this scene"
            )

    def _read(self, entry: object, name: str) -> Tags:
        if isinstance(entry, dict) and entry and all(_number(v) for v in entry.values()):
            return self._weighted(entry.items(), name)
        if _of_points(entry) and all(isinstance(v, dict) for v in entry.values()):
            best: dict[str, float] = {}
            for word, weight in (pair for said in entry.values() for pair in self._weighted(said.items(), name)):
                best[word] = max(weight, best.get(word, 0.0))
            return list(best.items())
        if isinstance(entry, dict):
            entry = [part for value in entry.values() for part in (value if isinstance(value, list) else [value])]
        if isinstance(entry, str):
            entry = [entry]
        if isinstance(entry, list) and entry and all(isinstance(e, list) and len(e) == 2 for e in entry):
            return self._weighted(entry, name)
        if not isinstance(entry, list) or not all(isinstance(e, str) for e in entry):
            raise UserError(f"{self.path}: view {name}: expected captions, or tags with weights")
        return tags_of(entry, self._nouns)

    def _weighted(self, pairs: Any, name: str) -> Tags:
        out = []
        for word, weight in pairs:
            if not isinstance(word, str) or not _number(weight):
                raise UserError(f"{self.path}: view {name}: {word!r}: {weight!r} is no tag with a weight")
            word = " ".join(word.lower().split())
            if word and weight > 0 and np.isfinite(weight):
                out.append((word, float(weight)))
        return out


@register_tagger("retrieval")
class RetrievalTagger:
    """Words of a list that the masks' vectors lie nearest to: needs nothing but the scene's image-text encoder.

    Every mask votes for its `top` nearest words. A word's cosine is taken relative to its mean over the view's masks,
    as image-text encoders find some words near to everything.

    Args:
        encoder: the one that made the features.
        words: the list; by default what the encoder can answer (see `words_for`).
        top: words that a mask votes for.
    """

    def __init__(self, encoder: Encoder, words: Sequence[str] | None = None, top: int = 3):
        self.encoder, self.top = encoder, top
        words = list(words_for(encoder) if words is None else words)
        self.words, self.vectors = embed_words(encoder, words)
        self.settings = {"words": len(self.words), "top": top}
        if not self.words:
            raise UserError(
                f"the encoder {encoder.name} knows none of the {len(words)} words to choose from; give other ones "
                "with --words"
            )

    def tag(self, image: np.ndarray, image_name: str, masks: MaskSet, features: Float[Tensor, "M D"]) -> Tags:
        """Words by the number of masks that vote for them."""
        if features.numel() == 0 and len(masks):
            features = self.encoder.encode_image(image, masks, image_name)
        features = torch.nan_to_num(features.float())
        valued = (features != 0).any(1)
        if features.numel() == 0 or not bool(valued.any()):
            return []
        unit = torch.nn.functional.normalize(features[valued], dim=1)
        cosine = unit @ self.vectors.to(unit).T
        relative = cosine - cosine.mean(0, keepdim=True) if len(cosine) > 3 else cosine
        best = (cosine + relative).topk(min(self.top, len(self.words)), dim=1).indices
        count = torch.bincount(best.flatten(), minlength=len(self.words))
        order = torch.argsort(count, descending=True, stable=True)
        return [(self.words[k], float(count[k])) for k in order.tolist() if count[k] > 0]


def words_for(encoder: Encoder) -> tuple[str, ...]:
    """The words among which things are named where nobody gives any.

    The closed list of an encoder that has one; the colours of one that knows those only; else `NOUNS`.
    """
    known = getattr(encoder, "known_texts", None)
    if known is not None:
        from ag2_ns.perception.prompts import NEGATIVES

        return tuple(text for text in known() if text not in NEGATIVES)
    return BASIC if encoder.name == "palette" else NOUNS


def embed_words(encoder: Encoder, words: Sequence[str]) -> tuple[list[str], Float[Tensor, "T D"]]:
    """The words that an encoder knows, each once, and their vectors of unit length."""
    words = list(dict.fromkeys(" ".join(w.split()) for w in words if w.strip()))
    if not words:
        return [], torch.zeros(0, encoder.dim)
    try:
        vectors = encoder.encode_text(words).float()
    except UserError:  # a closed list that lacks one of them
        known, rows = [], []
        for word in words:
            try:
                rows.append(encoder.encode_text([word])[0].float())
            except UserError:
                continue
            known.append(word)
        words, vectors = known, torch.stack(rows) if rows else torch.zeros(0, encoder.dim)
    keep = [k for k, row in enumerate(vectors) if bool((row != 0).any()) and bool(torch.isfinite(row).all())]
    return [words[k] for k in keep], torch.nn.functional.normalize(vectors[keep], dim=1)


def _stem(name: str) -> str:
    stem = name.replace("\\", "/")
    stem = stem.rsplit(".", 1)[0] if "." in stem.rsplit("/", 1)[-1] else stem
    head, _, rest = stem.partition("/")
    return rest if rest and head.startswith("images") else stem


def _of_points(entry: object) -> bool:
    """Whether an entry speaks of regions of a cloud."""
    return isinstance(entry, dict) and bool(entry) and all(re.fullmatch(r"(sector|pillar)_\d+", k) for k in entry)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
