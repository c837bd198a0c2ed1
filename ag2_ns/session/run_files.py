"""What lies beside a run: its edits and a saved selection, taken up when the run is opened and written by the panel."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ag2_ns.core.notice import notice
from ag2_ns.edit.edit_file import FILE_NAME, load_edits, save_edits
from ag2_ns.io.selection_file import load_selection, save_selection
from ag2_ns.query.text import Text
from ag2_ns.session.state import State

if TYPE_CHECKING:
    from ag2_ns.session.session import Session

QUERY = "AG2_QUERY"
"""Environment variable: what is selected when a run is opened. Several texts are separated by semicolons."""

EDITS = "AG2_EDITS"
"""Environment variable: 0 opens runs without their edits."""

SELECTION_FILE = "ag2_selection.npz"
"""A selection saved beside a run; it is made again when the run is opened, unless AG2_QUERY asks for something else."""


def take_up(session: Session) -> None:
    """Start a session with the run's edits, and the query of AG2_QUERY or else a saved selection.

    Raises:
        UserError: edits of another run, or a query that makes no sense.
    """
    state, scene = State(), session.scene()
    folder = scene.folder
    session.kept = ()
    if folder is not None and os.environ.get(EDITS, "1") != "0" and (folder / FILE_NAME).exists():
        path = folder / FILE_NAME
        state = replace(state, history=load_edits(path, scene.fingerprint))
        session.kept = state.history.done
        if len(state.history):
            notice(f"{path}: {len(state.history)} edit(s) applied; {EDITS}=0 leaves them out", style=None)
    session.restart(state)
    query = os.environ.get(QUERY)
    saved = None if folder is None else folder / SELECTION_FILE
    if query is not None:
        for k, text in enumerate(query.split(";")):
            session.ask(Text(text.strip()), "add" if k else "select")
        found = session.state.selection
        label, what = (query, found.reason) if found.empty else (found.label, f"score {found.score:.2f}")
        notice(f"{QUERY}: {label} ({what})", style=None)
    elif saved is not None and saved.exists() and scene.index is not None:
        found = load_selection(saved, scene.fingerprint, scene.device)
        session.restart(replace(state, selection=found))
        notice(f"{saved}: {found.label} selected", style=None)
    session.restart(session.state)


def keep_edits(session: Session) -> Path:
    """Write the edits beside the run; every command shows them from then on.

    What another program has added meanwhile is kept, and shown in this session too.

    Raises:
        UserError: the folder is not known or cannot be written, or another program has changed the edits so that they
            cannot be joined.
    """
    path = session.folder() / FILE_NAME
    mine = session.state.history
    written = save_edits(path, mine, session.scene().fingerprint, session.kept)
    session.kept = written.done
    if written != mine:
        session.take_edits(written)
    return path


def keep_selection(session: Session) -> Path:
    """Write the selection beside the run; ns-render and ns-viewer open with it.

    Raises:
        UserError: nothing is selected, or the folder is not known or cannot be written.
    """
    path = session.folder() / SELECTION_FILE
    save_selection(path, session.require_selection(), session.scene().fingerprint)
    return path
