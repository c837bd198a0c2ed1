"""How a referring field is trained. Imports nothing: `ag2 --help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class ReferOptions:
    """How a field is trained."""

    preset: Literal["ours", "code", "paper"] = "ours"
    """Constants: the published code's with its bugs mended, as it is, or the paper's."""
    masks: Literal["exact", "pseudo", "solver"] = "exact"
    """What to train on: masks of the ground truth, masks chosen among the prepared ones (the published way), or what
    the solver answers."""
    ground_truth: Path | None = None
    """Folder with ids/*.png; by default ground_truth beside sentences/."""
    text_model: Path | None = None
    """Folder of a BERT that transformers can load (the paper: bert-large-uncased); by default all-MiniLM-L6-v2 of the
    extra `words`."""
    steps: int = 0
    """Steps; by default five passes over all pairs of view and sentence (the paper's preset: 45,000)."""
    views_per_sentence: int = 8
    """Training views of each sentence that is not bound to one."""
    downscale: int = 1
    """Train on pictures smaller by this whole factor."""
    stages: Literal[1, 2] = 1
    """2: train again on masks drawn from the first stage's answers."""
    seed: int = 0
    """Of the order of the samples and of the networks."""
