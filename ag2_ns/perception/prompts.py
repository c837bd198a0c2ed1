"""Sentences around a word: image-text encoders were trained on captions, not on single words."""

from __future__ import annotations

import re

from ag2_ns.core.errors import UserError
from ag2_ns.perception.english import with_article

NEGATIVES = ("object", "things", "stuff", "texture")
"""Phrases that anything matches a little; a text must do better than each of them (LERF, section 3.4)."""


TEMPLATES: dict[str, tuple[str, ...]] = {
    "plain": ("{}",),
    "photo": ("a photo of {a}.",),
    "ensemble": (
        "a photo of {a}.",
        "a cropped photo of {a}.",
        "a close-up photo of {a}.",
        "{a} in a scene.",
        "a photo of the {}.",
    ),
}
"""Named sets of templates: `{}` is the text itself, `{a}` (and `a {}`) the text with an article where it takes one."""

RULES = 2
"""Counts changes of what `fill` makes of a text, which embeddings kept on disk depend on."""


def templates(name: str) -> tuple[str, ...]:
    """The templates of a named set, or the name itself as a single template where it contains braces.

    Raises:
        UserError: neither.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    if "{}" in name or "{a}" in name:
        return (name,)
    raise UserError(
        f"there are no prompt templates called {name!r}; choose one of: {', '.join(TEMPLATES)}, or write your own "
        "with {} for the text"
    )


def fill(template: str, text: str) -> str:
    """One sentence about `text`; an article of the text is not doubled, and plurals get no a."""
    text = " ".join(text.split())
    if template == "{}":
        return text
    first, _, rest = text.partition(" ")
    bare = rest if rest and first.lower() in ("a", "an", "the") else text
    template = re.sub(r"\b[Aa]n? \{\}", "{a}", template)
    return template.replace("{a}", with_article(text)).replace("{}", bare)
