"""What the panel says: what is selected, what was edited, what is going on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ag2_ns.edit.operations import Brighten, Delete, Patch

if TYPE_CHECKING:
    from ag2_ns.edit.history import History
    from ag2_ns.session.session import Session

NO_INSTANCES = "*No instances yet: they come at the end of training, if the scene has masks (`ag2 prepare`).*"


def describe(session: Session, message: str = "", busy: tuple[str, ...] = ()) -> str:
    """What is selected and edited, as Markdown.

    Args:
        session: the session.
        message: a line about what was just done, or why it could not be done.
        busy: what is being done.
    """
    state = session.state
    found = state.selection
    lines = []
    if session.scene().index is None:
        if not message:  # which says so itself, or why nothing happened
            lines.append(NO_INSTANCES)
    elif found is None:
        lines.append("*Click on something, or type what to look for.*")
    elif found.empty:
        lines.append(
            f"**{plain(found.label)}**: nothing selected" + (f" ({plain(found.reason)})" if found.reason else "")
        )
    else:
        which = "" if state.copy in (None, 0) else f", copy {state.copy}"
        count, score = int(found.gaussian_mask.sum()), f"score {found.score:.2f}"
        lines.append(f"**{plain(found.label)}**{which} ({score}): {count:,} Gaussian{'' if count == 1 else 's'}")
        second = None if state.answer is None or len(state.questions) > 1 else state.answer.runner_up
        if second is not None:
            lines.append(f"next: {plain(second.label)} ({second.score:.2f})")
    if len(state.history):
        lines.append(plain(edits(state.history)))
    lines += [f"*{plain(text)}*" for text in busy]
    if message:
        lines.append(plain(message))
    return "\n\n".join(lines)


def edits(history: History) -> str:
    """How many edits there are, and the last of them, in a few words."""
    step = history.done[-1]
    words = f"{step[0].name} {step[0].label or 'selection'}"
    tidied = [e for e in step if (isinstance(e, Delete) and e.residue is not None) or isinstance(e, (Patch, Brighten))]
    if any(isinstance(e, Patch) for e in tidied):
        words += ", hole closed"
    elif tidied:
        words += ", tidied"
    return f"{len(history)} edit{'' if len(history) == 1 else 's'}; last: {words}"


def plain(text: str) -> str:
    """Text with Markdown's marks taken as they are."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in text)
