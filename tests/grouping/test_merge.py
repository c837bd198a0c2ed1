import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.grouping.merge import Pairs, above


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(0, 60), st.integers(0, 12))
def test_pairs_follow_the_regions_that_they_are_in(seed, regions, count, merges):
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, regions, (2, count))
    pairs = Pairs(*ends)
    known = {tuple(sorted(p)): rng.random() for p in ends.T.tolist() if p[0] != p[1]}
    assert list(zip(pairs.left, pairs.right)) == sorted(known) and list(pairs.stale) == list(range(len(known)))
    parent = np.arange(regions)
    for _ in range(3):  # passes
        pairs.score[:] = [known[p] for p in zip(pairs.left.tolist(), pairs.right.tolist())]
        order = sorted(np.flatnonzero(pairs.score >= 0.5), key=lambda k: (-pairs.score[k], k))
        assert list(above(pairs.score, 0.5, None)) == order
        changed = np.zeros(regions, bool)
        for _ in range(merges // 3):
            a, b = (root_of(parent, x) for x in rng.integers(0, regions, 2))
            if a != b:
                parent[b], changed[a] = a, True
        pairs.refresh(parent, changed)
        named = {tuple(sorted(root_of(parent, x) for x in p)) for p in known}
        found = list(zip(pairs.left.tolist(), pairs.right.tolist()))
        assert sorted(found) == sorted(p for p in named if p[0] != p[1])
        stale = [k for k, p in enumerate(found) if changed[list(p)].any()]
        assert sorted(pairs.stale) == stale
        for k, p in enumerate(found):
            assert k in stale or pairs.score[k] == known[p]
        known = {p: known[p] if k not in stale else rng.random() for k, p in enumerate(found)}


def root_of(parent, x):
    while parent[x] != x:
        x = parent[x]
    return int(x)
