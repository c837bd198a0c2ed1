"""Text embeddings kept on disk, so that a query does not wait for a text encoder to load."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.io.atomic import write_atomic


def cache_folder() -> Path:
    """`$AG2_CACHE`, else `ag2_ns` in the user's cache folder."""
    if os.environ.get("AG2_CACHE"):
        return Path(os.environ["AG2_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ag2_ns"


def cached_texts(
    texts: list[str],
    key: dict,
    encode: Callable[[list[str]], Float[Tensor, "T D"]],
    folder: Path | None = None,
) -> Float[Tensor, "T D"]:
    """Embeddings of texts, from disk where they are there; missing ones are encoded together and stored.

    Args:
        texts: what to embed.
        key: JSON: everything else the embedding depends on (model, weights, templates).
        encode: embeds the missing ones.
        folder: where the cache is, default `cache_folder() / "text"`.
    """
    folder = cache_folder() / "text" if folder is None else folder
    files = [folder / f"{_digest([key, text])}.npy" for text in texts]
    rows: dict[str, Tensor] = {}
    for text, file in zip(texts, files):
        try:
            rows[text] = torch.from_numpy(np.load(file, allow_pickle=False))
        except (OSError, ValueError, EOFError):
            continue
    missing = [text for text in dict.fromkeys(texts) if text not in rows]
    if missing:
        for text, row in zip(missing, encode(missing).float().cpu()):
            rows[text] = row
            buffer = io.BytesIO()
            np.save(buffer, row.numpy())
            with suppress(UserError, OSError):  # a cache that cannot be written costs time, nothing else
                write_atomic(files[texts.index(text)], buffer.getvalue())
    return torch.stack([rows[text] for text in texts])


def _digest(content: list) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()
