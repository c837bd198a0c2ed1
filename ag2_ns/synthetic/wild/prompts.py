"""Prompts that name nothing in a scene, of three sorts, and the words to say so."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ag2_ns.synthetic.tabletop.kinds import COLOURS

SORTS = ("kind", "colour", "lookalike")
"""Nothing of that kind is there; that kind, but not in that colour; that colour, but another kind of its family."""

FAMILIES = (
    ("mug", "cup", "bowl", "pot", "plate", "teapot"),
    ("apple", "ball", "mushroom"),
    ("book", "open book", "gift box", "block tower"),
    ("toy car", "rocket", "robot", "rubber duck"),
    ("bottle", "candle", "lamp"),
)
"""Kinds that are easily mistaken for one another."""

OTHER_KINDS = ("spoon", "knife", "toaster", "bag", "towel", "mirror", "bear", "television", "sofa", "cushion")
"""Kinds that no table-top holds, with real cosines."""


def absent_prompts(
    labels: Collection[str], kinds: Collection[str], count: int, seed: int, furniture: Collection[str] = ()
) -> list[tuple[str, str]]:
    """(text, sort) of prompts of which no label says anything.

    Args:
        labels: all labels of the scene, "<colour> <kind>" or a word.
        kinds: the kinds that such scenes may hold.
        count: prompts wanted, the sorts in turn.
        seed: draws them.
        furniture: kinds of what stands around without a label; its features say so, whatever its colour.
    """
    rng = np.random.default_rng([seed, 23])
    colours = sorted(COLOURS)
    split = [label.partition(" ") for label in sorted(set(labels))]
    pairs = [(c, k) for c, _, k in split if c in COLOURS and k]
    present = {k for _, k in pairs} | {c for c, _, k in split if not k}
    missing = sorted((set(kinds) | set(OTHER_KINDS)) - present)
    pools: dict[str, list[str]] = {
        "kind": [f"{c} {k}" for k in missing for c in rng.permutation(colours)[:2]],
        "colour": [f"{c} {k}" for _, k in pairs for c in colours if (c, k) not in pairs],
        "lookalike": [
            f"{c} {other}"
            for c, k in pairs
            for family in FAMILIES
            if k in family
            for other in family
            if other != k and (c, other) not in pairs
        ],
    }
    pools = {sort: [pool[i] for i in rng.permutation(len(pool))] for sort, pool in pools.items()}
    chosen: list[tuple[str, str]] = []
    while len(chosen) < count and any(pools.values()):
        for sort in SORTS:
            while pools[sort]:
                text = pools[sort].pop()
                if text not in [t for t, _ in chosen] and text.partition(" ")[2] not in furniture:
                    chosen.append((text, sort))
                    break
    return chosen[:count]
