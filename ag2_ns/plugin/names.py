"""File names as other systems write them: backslashes, drives, another folder, another case, another Unicode form."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Tried, in lower and upper case, for names that have none, as Blender scenes do."""


def portable(name: str) -> str:
    """A relative name with slashes and without `./`: what two spellings of one name have in common."""
    name = name.strip().replace("\\", "/")
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


class Locator:
    """Finds files below a folder by the names that a capture gives them.

    Args:
        folder: what names are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listings: dict[Path, dict[str, str]] = {}

    def find(self, name: str, suffixes: tuple[str, ...] = ()) -> Path:
        """The file that is meant; where there is none, the path that it should have.

        Args:
            name: relative to the folder or absolute, perhaps on another machine.
            suffixes: tried where the name itself is no file.
        """
        plain = self.folder / name
        if plain.is_file():
            return plain
        endings = ("", *suffixes, *(s.upper() for s in suffixes))
        for path in self._spellings(name):
            for ending in endings:
                found = path.with_name(path.name + ending) if path.name else path
                if found.is_file():
                    return found
        for path in self._spellings(name):
            found = self._alike(path, endings)
            if found is not None:
                return found
        return self.folder / portable(name)

    def _spellings(self, name: str) -> list[Path]:
        """Paths that a name may mean, the likeliest first."""
        slashed = portable(name)
        drive = PureWindowsPath(name).drive
        parts = PurePosixPath(slashed).parts
        if not drive and not slashed.startswith("/"):
            return [self.folder / slashed]
        whole = [] if drive else [Path(slashed)]
        return [*whole, *(self.folder.joinpath(*parts[k:]) for k in range(1, len(parts)))]

    def _alike(self, path: Path, endings: tuple[str, ...]) -> Path | None:
        """A file of the same name but for case and Unicode form."""
        if not path.is_relative_to(self.folder):
            return None
        here = self.folder
        *folders, last = path.relative_to(self.folder).parts or ("",)
        for part in folders:
            step = part if part == ".." or (here / part).is_dir() else self._listing(here).get(_folded(part))
            if step is None:
                return None
            here = here / step
        for ending in endings:
            found = self._listing(here).get(_folded(last + ending))
            if found is not None and (here / found).is_file():
                return here / found
        return None

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._listings:
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            self._listings[folder] = {_folded(name): name for name in names}
        return self._listings[folder]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
