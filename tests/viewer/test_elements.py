"""Elements of the panel, on a page that is a list of what it was sent."""

import time
from types import SimpleNamespace

import ag2_ns.viewer.elements as elements
from ag2_ns.viewer.elements import Note


class Handle:
    def __init__(self, sent):
        self.__dict__["sent"] = sent

    def __setattr__(self, name, value):
        self.sent.append(value)


def shown(note):
    """What a page was sent since it took up a note."""
    sent = []
    note.install(SimpleNamespace(gui=SimpleNamespace(add_markdown=lambda content: Handle(sent))))
    return sent


def until(holds, seconds=10.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_text_that_stays_is_sent_again_a_little_different(monkeypatch):
    monkeypatch.setattr(elements, "AGAIN", (0.01, 0.01, 0.01))
    note = Note("")
    sent = shown(note)
    note.content = "a"
    until(lambda: len(sent) == 4)
    assert [text.rstrip() for text in sent] == ["a"] * 4 and len(set(sent)) == 4
    note.content = "a"  # nothing new
    assert len(sent) == 4


def test_no_old_text_follows_a_new_one(monkeypatch):
    monkeypatch.setattr(elements, "AGAIN", (0.0, 0.0, 0.0))
    note = Note("")
    sent = shown(note)
    for k in range(200):
        note.content = str(k)
    until(lambda: sent[-1] == "199\n\n\n")
    order = [int(text) for text in sent]
    assert order == sorted(order)
