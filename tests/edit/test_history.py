import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.edit.history import History
from ag2_ns.edit.operations import Delete, Members, Transform

M = Members.of(torch.tensor([True, False, True]))


def step(k):
    return Transform(M, translation=(float(k), 0, 0))


def test_undo_and_redo():
    h = History().push(step(1)).push([step(2), step(3)])
    assert len(h) == 2 and len(h.edits) == 3
    back = h.undo()
    assert back.edits == (step(1),) and back.can_redo
    assert back.redo().done == h.done
    assert back.push(step(9)).edits == (step(1), step(9))
    assert not back.push(step(9)).can_redo
    assert h.edits == (step(1), step(2), step(3))  # immutable


def test_nothing_to_undo_or_redo():
    with pytest.raises(UserError, match="nothing to undo"):
        History().undo()
    with pytest.raises(UserError, match="nothing to redo"):
        History().push(step(1)).redo()


def test_bounded():
    h = History(depth=3)
    for k in range(5):
        h = h.push(step(k))
    assert len(h.edits) == 5  # what was done stays done
    for _ in range(3):
        h = h.undo()
    assert not h.can_undo
    with pytest.raises(UserError, match="only the last 3"):
        h.undo()
    assert h.redo().redo().redo().edits[-1] == step(4)


def test_clear_and_empty_steps():
    h = History().push(step(1))
    assert h.push([]) is h
    assert len(h.clear()) == 0 and not h.clear().can_redo


def test_describe():
    assert History().push([Delete(M, label="mug"), step(1)]).describe() == [
        "delete mug: 2 Gaussians; transform selection: 2 Gaussians, moved by (1, 0, 0)"
    ]


@given(st.lists(st.sampled_from("pur"), max_size=40))
@settings(max_examples=60, deadline=None)
def test_against_a_list_with_a_cursor(moves):
    h, items, cursor = History(), [], 0
    for k, move in enumerate(moves):
        if move == "p":
            h, items, cursor = h.push(step(k)), [*items[:cursor], step(k)], cursor + 1
        elif move == "u" and cursor:
            h, cursor = h.undo(), cursor - 1
        elif move == "r" and cursor < len(items):
            h, cursor = h.redo(), cursor + 1
        assert list(h.edits) == items[:cursor]
        assert h.can_undo == (cursor > 0) and h.can_redo == (cursor < len(items))
