"""How much two regions belong together, from the masks of every view that sees both.

Per view, let p(m) be the share of a region's covered pixels that lies inside mask m, and c the share of its visible
pixels that any mask covers.

- together  T = 1 - prod over m of (1 - p_a(m) p_b(m)): some mask holds both.
- apart     D = max over m of |p_a(m) - p_b(m)|: some mask holds one and not the other.
- a vote    T * (1 - part * max(0, T + D - 1)): one inside a common mask, less `part` where a finer mask parts them, so
  that parts of a whole merge after pixels of one part and before different objects; 0 when no mask holds both.
- evidence  min(c_a, c_b) + one_sided * |c_a - c_b|: pixels that no mask covers say nothing, a mask that ends between
  the two says something.

Views are weighted by the smaller of the two relative visibilities (visible area over the region's largest one). The
affinity is votes over evidence, with `none` views of evidence against added: what was hardly seen comes last.
The constants are `GroupingConfig`'s.
"""

from __future__ import annotations

import math

from ag2_ns.ops.jit import jit


@jit
def row_affinity(slot, weight, a, a_end, a_peak, b, b_end, b_peak, slot_view, view_slot, extra_vote, extra, scoring):
    """Affinity of two rows of the pool.

    A row lists slots in ascending order; the slots of view v start at view_slot[v]: total, covered, then its masks.

    Args:
        slot, weight: the pool of rows.
        a, a_end, b, b_end: where the two rows start and end in the pool.
        a_peak, b_peak: the largest total of each row.
        slot_view: the view of each slot.
        view_slot: the first slot of each view.
        extra_vote, extra: votes and evidence from elsewhere, in views.
        scoring: the constants.
    """
    votes = extra_vote
    evidence = extra
    while a < a_end and b < b_end:
        view_a = slot_view[slot[a]]
        view_b = slot_view[slot[b]]
        if view_a < view_b:
            stop = view_slot[view_a + 1]
            while a < a_end and slot[a] < stop:
                a += 1
            continue
        if view_b < view_a:
            stop = view_slot[view_b + 1]
            while b < b_end and slot[b] < stop:
                b += 1
            continue
        first = view_slot[view_a]
        stop = view_slot[view_a + 1]
        total_a = weight[a]
        total_b = weight[b]
        a += 1
        b += 1
        in_a = 0.0
        in_b = 0.0
        if a < a_end and slot[a] == first + 1:
            in_a = weight[a]
            a += 1
        if b < b_end and slot[b] == first + 1:
            in_b = weight[b]
            b += 1
        cover_a = in_a / total_a
        cover_b = in_b / total_b
        apart = 0.0
        missing = 1.0
        per_a = 1.0 / in_a if in_a > 0.0 else 0.0  # one division per view, not one per mask
        per_b = 1.0 / in_b if in_b > 0.0 else 0.0
        sa = slot[a] if a < a_end and slot[a] < stop else stop
        sb = slot[b] if b < b_end and slot[b] < stop else stop
        while sa != stop or sb != stop:
            pa = 0.0
            pb = 0.0
            first_of = min(sa, sb)
            if sa == first_of:
                pa = min(weight[a] * per_a, 1.0)
                a += 1
                sa = slot[a] if a < a_end and slot[a] < stop else stop
            if sb == first_of:
                pb = min(weight[b] * per_b, 1.0)
                b += 1
                sb = slot[b] if b < b_end and slot[b] < stop else stop
            missing *= 1.0 - pa * pb
            apart = max(apart, abs(pa - pb))
        together = 1.0 - missing
        vote = together * (1.0 - scoring.part * max(0.0, together + apart - 1.0))
        both = min(cover_a, cover_b)
        seen = min(total_a / a_peak, total_b / b_peak)
        votes += seen * both * vote
        evidence += seen * (both + scoring.one_sided * abs(cover_a - cover_b))
    return votes / (evidence + scoring.none)


@jit
def feature_vote(feature, a, b, bandwidth):
    """exp(-|f_a - f_b|^2 / 2 bandwidth^2): the graph weight of AG2aussian, on regions' mean features."""
    total = 0.0
    for k in range(feature.shape[1]):
        difference = feature[a, k] - feature[b, k]
        total += difference * difference
    return math.exp(-0.5 * total / (bandwidth * bandwidth))


@jit
def edge_affinities(
    begin, stop, edges, left, right, score, slot, weight, start, length, peak, slot_view, view_slot, feature, scoring,
):  # fmt: skip
    """Score the edges (left[e], right[e]), e in edges[begin:stop], in place."""
    for k in range(begin, stop):
        e = edges[k]
        a = left[e]
        b = right[e]
        vote = 0.0
        extra = 0.0
        if feature.shape[1] > 0:
            extra = scoring.feature_views
            vote = extra * feature_vote(feature, a, b, scoring.tau)
        score[e] = row_affinity(
            slot, weight, start[a], start[a] + length[a], peak[a], start[b], start[b] + length[b], peak[b],
            slot_view, view_slot, vote, extra, scoring,
        )  # fmt: skip


@jit
def pair_affinities(begin, stop, one, other, slot, weight, row, peak, slot_view, view_slot, scoring, out):
    """Affinities out[k] of the rows one[k] and other[k], k from `begin` to `stop`; 0 where a row is empty."""
    for k in range(begin, stop):
        a, b = one[k], other[k]
        if row[a + 1] > row[a] and row[b + 1] > row[b]:
            out[k] = row_affinity(
                slot, weight, row[a], row[a + 1], peak[a], row[b], row[b + 1], peak[b], slot_view, view_slot, 0.0, 0.0,
                scoring,
            )  # fmt: skip
