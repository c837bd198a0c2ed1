"""What a user can mend: one exception type for each kind, so that code can tell them apart, each shown as one line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible option.

    The message is one line that names the file, the problem and the remedy. The `ag2` command and, through
    `ag2_ns.plugin.compat`, nerfstudio's commands on this package's methods print it without a traceback and exit with
    status 1. Where code has to tell causes apart it catches one of the classes below, which carry the facts.

    Not a `RuntimeError`, because nerfstudio swallows those while it loads checkpoints.
    """


class MissingInstances(UserError):
    """A scene has no instances: no masks were lifted."""

    def __init__(self, path: Path | None, prepare: str = "ag2 prepare") -> None:
        """Args: the scene's file, if it has one, and the command that makes its masks."""
        self.path, self.prepare = path, prepare
        lift = ["ag2", "lift"] + ([] if path is None else ["--load-config", str(path.parent / "config.yml")])
        place = "the scene" if path is None else path
        super().__init__(f"{place}: no instances yet; run `{prepare}`, then `{shlex.join(lift)}`")


class UnknownView(UserError):
    """No picture of the scene is called so, or several are."""

    def __init__(self, image: str, names: Sequence[str], alike: Sequence[str] = ()) -> None:
        self.image, self.names, self.alike = image, list(names), list(alike)
        if alike:
            why = f"{len(alike)} images are called so; say which: {', '.join(alike[:4])}"
        elif names:
            why = f"no such image; give one of {names[0]} … {names[-1]} or 0 to {len(names) - 1}"
        else:
            why = "the scene has no cameras; give a view of your own"
        super().__init__(f"camera {image!r}: {why}")


class MissingLanguage(UserError):
    """The scene cannot be asked in words: its masks were not described."""


class EncoderGone(UserError):
    """What the encoder of a scene's language needs is gone or has changed."""


class UnknownWords(UserError):
    """No word of a text is known to the encoder that the scene's language is by."""

    def __init__(self, text: str, nearest: Sequence[str] = (), known: Sequence[str] = (), hint: str = "") -> None:
        """Args: the text; the known texts that are most like it; all of them, where they are a list; else a hint."""
        self.text, self.nearest, self.known = text, list(nearest), list(known)
        if nearest:
            hint = f"nearest: {', '.join(nearest)}"
        elif known:
            hint = f"known: {', '.join(self.known[:8])}{', …' if len(self.known) > 8 else ''}"
        super().__init__(f"{text!r}: nothing here is called that; {hint or 'say it in other words'}")


class MissingFile(UserError):
    """A file that was asked for does not exist."""


class DamagedFile(UserError):
    """A file is truncated, of another kind, or of another version."""


class StaleStore(UserError):
    """Masks or features were made with other settings, or from another picture."""


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    text = str(error).strip()
    return text.splitlines()[0].strip() if text else type(error).__name__


class UnreadableImage(UserError):
    """A picture, or a mask of one, that cannot be served."""

    def __init__(self, path: object, reason: str, remedy: str = "replace it or remove its frame") -> None:
        super().__init__(f"{path}: not a readable image ({reason}); {remedy}")
        self.path, self.reason = path, reason


class WrongSize(UserError):
    """A picture that has not the size of its camera."""

    def __init__(self, path: object, found: tuple[int, int], expected: tuple[int, int], remedy: str) -> None:
        (w, h), (cw, ch) = found, expected
        super().__init__(f"{path}: the image has {w}x{h} pixels, its camera {cw}x{ch}; {remedy}")
        self.path, self.found, self.expected = path, found, expected


class UnsupportedLens(UserError):
    """A camera that nobody can turn into a straight one, or that what asks for it cannot use."""

    def __init__(self, place: object, problem: str, remedy: str) -> None:
        super().__init__(f"{place}: {problem}; {remedy}")
        self.place, self.problem, self.remedy = place, problem, remedy
