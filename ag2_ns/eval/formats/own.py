"""Our own ground truth: ids/*.png and labels.json, and beside them parts, groups and absent prompts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ag2_ns.core.errors import UserError
from ag2_ns.eval.benchmark import Benchmark, of_ids
from ag2_ns.eval.tabletop import read_ground_truth

PART_PIXELS = 0.15
"""A view counts for a part from this share of the pixels that a thing needs."""


def read(folder: Path) -> Benchmark:
    """Things of a ground truth, with the prompts that name nothing where it lists some.

    Raises:
        UserError: files are missing or damaged.
    """
    return of_ids(read_ground_truth(folder), read_absent(folder))


def read_parts(folder: Path) -> Benchmark | None:
    """Named parts, None where the ground truth knows none."""
    if not (folder / "parts" / "labels.json").is_file():
        return None
    truth = read_ground_truth(folder / "parts")
    return of_ids(truth, least=PART_PIXELS)


def read_groups(folder: Path) -> Benchmark | None:
    """Named groups, None where the ground truth knows none."""
    path = folder / "groups" / "labels.json"
    if not path.is_file() or not json.loads(path.read_text(encoding="utf-8")):
        return None
    return of_ids(read_ground_truth(folder / "groups"))


def read_absent(folder: Path) -> tuple[tuple[str, str], ...]:
    """Prompts that name nothing, and their sorts; none where there is no `absent.json`.

    Raises:
        UserError: a damaged file.
    """
    path = folder / "absent.json"
    if not path.is_file():
        return ()
    try:
        return tuple((str(each["text"]), str(each["sort"])) for each in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a list of text and sort ({error}); make the scene again") from error


TWIN = " #"
"""Between a text and the id of one of several things of that text."""


def each_thing(folder: Path) -> Benchmark:
    """Every thing by itself, for clicks: twins are told apart by their ids.

    Raises:
        UserError: files are missing or damaged.
    """
    truth = read_ground_truth(folder)
    texts = list(truth.labels.values())
    own = {i: f"{text}{TWIN}{i}" if texts.count(text) > 1 else text for i, text in truth.labels.items()}
    return of_ids(replace(truth, labels=own))


def is_twin(target: str) -> bool:
    """Whether a target of `each_thing` is one of several of its name."""
    return TWIN in target
