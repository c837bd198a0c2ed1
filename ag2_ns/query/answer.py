"""From words, clicks and boxes to selections of a run, called by known words: what the commands and the viewer ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.selection import Selection
from ag2_ns.query.box import select_box
from ag2_ns.query.click import select_click
from ag2_ns.query.pixel_weights import pixel_view
from ag2_ns.query.text import select_text

if TYPE_CHECKING:
    from ag2_ns.language.text_encoder import TextEncoder
    from ag2_ns.plugin.run import LoadedRun
    from ag2_ns.scene.scene_index import SceneIndex


def text_selection(
    index: SceneIndex, texts: TextEncoder, text: str, *, several: bool | None = None, level: float | None = None
) -> Selection:
    """The selection that a text names, embedded by the encoder that prepared the scene.

    Raises:
        UserError: an empty text, a text of which the encoder knows no word, or a level out of range.
    """
    device = index.anchor_xyz.device
    embedding, negatives = texts.embed(text), texts.negatives()
    if not bool((embedding != 0).any()):
        known = getattr(texts.encoder(), "knows", "say it in other words")
        raise UserError(f"{texts.data}: no word of {text!r} is known; {known}")
    return select_text(
        index,
        text,
        embedding.to(device),
        None if negatives is None else negatives.to(device),
        several=several,
        level=level,
    )


def unknown_words(texts: TextEncoder, text: str) -> list[str]:
    """The words of a text that make no difference to its answer, where the encoder can tell."""
    unknown = getattr(texts.encoder(), "unknown_words", None)
    return [] if unknown is None else unknown(text)


Click = tuple[str, float, float]
"""Image (see `LoadedRun.view`) and pixel: x, y."""

Box = tuple[str, float, float, float, float]
"""Image and rectangle in pixels: x0, y0, x1, y1."""


@torch.no_grad()
def select(
    run: LoadedRun,
    *,
    text: str | None = None,
    click: Click | None = None,
    box: Box | None = None,
    level: float | None = None,
    several: bool | None = None,
) -> Selection:
    """One selection from a text, a click or a box; `refine` takes further clicks.

    Clicks and boxes see the scene as edited. What they show is called by the known text that names it, if any.

    Args:
        run: the run.
        text: words.
        click: image name and pixel (x, y).
        box: image name and corners (x0, y0, x1, y1) in pixels; parts outside of the image are cut off.
        level: granularity, 0 parts to 1 groups; for texts None looks at all levels, boxes always do.
        several: all instances that answer a text; by default when the words are plural.

    Raises:
        UserError: not exactly one of them was given, or what was given has no answer that makes sense.
    """
    if (text is not None) + (click is not None) + (box is not None) != 1:
        raise UserError(
            "give either a text (--text 'red mug'), a click (--click IMAGE X Y) or a box (--box IMAGE X0 Y0 X1 Y1)"
        )
    if text is not None:
        return text_selection(run.require_index(), run.texts, text, several=several, level=level)
    return _clicked(run, click, level) if box is None else _framed(run, box)


@torch.no_grad()
def refine(
    run: LoadedRun,
    found: Selection,
    *,
    add: Sequence[Click] = (),
    remove: Sequence[Click] = (),
    level: float | None = None,
) -> Selection:
    """A selection with what further clicks show added, and then with what others show taken away.

    Args:
        run: the run.
        found: the selection.
        add: clicks that add.
        remove: clicks that take away, from what was added, too; what is not selected stays so.
        level: granularity of the clicks, 0 parts to 1 groups; None is the level of objects.

    Raises:
        UserError: an empty selection, a click outside of its image or on nothing, or an unknown image.
    """
    if found.empty and (add or remove):
        raise UserError(f"{found.label}: nothing found ({found.reason}); --add and --remove need something to change")
    for click in add:
        more = _shown(run, click, level, "--add")
        found = found.union(more)
    for click in remove:
        found = found.without(_shown(run, click, level, "--remove"))
    return found


def _shown(run: LoadedRun, click: Click, level: float | None, option: str) -> Selection:
    """What a further click selects; `UserError` names its option where that is nothing."""
    name, x, y = click
    found = _clicked(run, click, level)
    if found.empty:
        raise UserError(f"{option} {name} {x:g} {y:g}: {found.reason}; click on a thing")
    return found


def _clicked(run: LoadedRun, click: Click, level: float | None) -> Selection:
    index, backend, (name, x, y) = run.require_index(), run.model.backend(), click
    view, level = run.view(str(name)), 0.5 if level is None else level
    found = run.scene.ask(index, lambda shown, g: select_click(shown, g, backend, view, float(x), float(y), level))
    return _called(run, found)


def clicked_copy(run: LoadedRun, click: Click, found: Selection) -> int | None:
    """Which copy of what it selected a click shows, 0 for the original; None without copies or a selection."""
    if found.empty or not run.scene.duplicates:
        return None
    name, x, y = click
    return run.scene.copy_shown(found, run.model.backend(), pixel_view(run.view(str(name)), float(x), float(y)))


def _framed(run: LoadedRun, box: Box) -> Selection:
    index, backend, (name, *corners) = run.require_index(), run.model.backend(), box
    if not all(math.isfinite(v) for v in corners):
        raise UserError(f"box ({', '.join(f'{v:g}' for v in corners)}): give x0 y0 x1 y1 in pixels, as numbers")
    view = run.view(str(name))
    found = run.scene.ask(index, lambda shown, g: select_box(shown, g, backend, view, tuple(corners)))
    return _called(run, found)


def _called(run: LoadedRun, found: Selection) -> Selection:
    """The selection under the name of its instance, where a known text names it."""
    called = run.texts.name(run.require_index(), found.nodes[0]) if found.nodes else None
    return found if called is None else replace(found, label=called)
