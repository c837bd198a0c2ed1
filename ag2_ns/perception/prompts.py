"""Sentences around a word: image-text encoders were trained on captions, not on single words."""

from __future__ import annotations

from ag2_ns.errors import UserError

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
"""Named sets of templates: `{}` is the text itself, `{a}` the text with an article where it has none."""

ARTICLES = ("a ", "an ", "the ", "this ", "that ", "some ", "my ", "your ", "his ", "her ", "its ", "two ", "three ")


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
    """One sentence about `text`; a leading article of the text is not doubled."""
    text = " ".join(text.split())
    bare = text
    for article in ("a ", "an ", "the "):
        if bare.lower().startswith(article):
            bare = bare[len(article) :]
            break
    with_article = text
    if not text.lower().startswith(ARTICLES):
        with_article = ("an " if text[:1].lower() in "aeiou" else "a ") + text
    return template.replace("{a}", with_article).replace("{}", text if template == "{}" else bare)
