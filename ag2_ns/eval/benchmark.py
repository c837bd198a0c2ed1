"""What is asked of a scene and what would be right: prompts, frames and masks, whatever files they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from ag2_ns.core.errors import UserError
from ag2_ns.core.view import View
from ag2_ns.eval.tabletop import GroundTruth, shown
from ag2_ns.io.view_store import view_stem

Masks = dict[str, Bool[np.ndarray, "H W"]]
"""The masks of one frame, by prompt."""


@dataclass(frozen=True)
class Strokes:
    """Scribbles over one frame (NVOS): pixels marked as the thing, and as not the thing."""

    frame: str
    positive: Bool[np.ndarray, "H W"]
    negative: Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class Benchmark:
    """Prompts with masks in some frames.

    A prompt is scored in the frames that have a mask of it, and in no others.
    """

    folder: Path
    format: str
    """Of the files: lerf-ovs, folders, lerf-mask, spin-nerf, nvos, ids."""
    sizes: dict[str, tuple[int, int]]
    """Frames: image name without suffix (`view_stem`) to height and width."""
    prompts: tuple[str, ...]
    """All texts, in the order of the report."""
    read: Callable[[str], Masks]
    """The masks of a frame."""
    several: frozenset[str] = frozenset()
    """Prompts that mean every thing of that name."""
    absent: tuple[tuple[str, str], ...] = ()
    """Prompts that name nothing in the scene, and what sort of nothing."""
    strokes: Strokes | None = None
    problems: tuple[str, ...] = ()
    """What was odd about the files, one line each."""
    _kept: dict[str, Masks] = field(default_factory=dict, init=False, repr=False, compare=False)

    def masks(self, frame: str) -> Masks:
        """The masks of a frame, kept once read."""
        if frame not in self._kept:
            self._kept[frame] = self.read(frame)
        return self._kept[frame]

    @property
    def first_frame(self) -> str:
        """The frame that comes first by name."""
        return min(self.sizes)

    def named_like(self, names_of: Callable[[str], Sequence[str]]) -> Benchmark:
        """The same, its frames under the names that a scene has for its images.

        Args:
            names_of: the images that a name may mean.
        """
        new: dict[str, str] = {}
        for frame in self.sizes:
            numbered = names_of(f"frame_{int(frame):05d}") if frame.isdigit() else []
            found = [view_stem(n) for n in names_of(frame) or numbered]
            new[found[0] if len(found) == 1 else frame] = frame
        strokes = self.strokes
        if strokes is not None:
            back = {old: key for key, old in new.items()}
            strokes = replace(strokes, frame=back.get(strokes.frame, strokes.frame))
        return replace(
            self,
            sizes={key: self.sizes[old] for key, old in new.items()},
            read=lambda key: self.masks(new[key]),
            strokes=strokes,
        )


@dataclass(frozen=True)
class Matched:
    """The frames of a benchmark that a scene has cameras for."""

    views: dict[str, tuple[str, View]]
    """Frame to image name and camera, at the size of the frame's labels."""
    missing: tuple[str, ...]
    """Frames that the scene has no camera for: every pair in them counts 0."""
    resized: tuple[str, ...]
    """Frames whose labels are of another size than the camera; they are drawn at the labels' size."""


def match_views(benchmark: Benchmark, views: Iterable[tuple[str, View]]) -> Matched:
    """Find the cameras of a benchmark's frames.

    Labels of another size than the camera's picture are compared at their own size, by a camera scaled to it.

    Raises:
        UserError: no frame is named like an image of the scene, or the shapes of pictures differ by more than 2 %.
    """
    by_stem = {view_stem(name): (name, view) for name, view in views}
    found: dict[str, tuple[str, View]] = {}
    resized = []
    for frame, (height, width) in benchmark.sizes.items():
        if frame not in by_stem:
            continue
        name, view = by_stem[frame]
        if (view.height, view.width) != (height, width):
            stretch = (height / view.height) / (width / view.width)
            if not 0.98 < stretch < 1.02:
                raise UserError(
                    f"{benchmark.folder}: labels of {frame} are {width}x{height} where the picture has "
                    f"{view.width}x{view.height}: another picture; check that the labels belong to this scene"
                )
            resized.append(frame)
            view = scaled(view, width, height)
        found[frame] = (name, view)
    if not found:
        some = ", ".join(sorted(benchmark.sizes)[:3])
        raise UserError(
            f"{benchmark.folder}: none of its frames ({some} ...) is named like an image of the scene; are these the "
            "labels of another scene?"
        )
    return Matched(found, tuple(sorted(set(benchmark.sizes) - set(found))), tuple(resized))


def scaled(view: View, width: int, height: int) -> View:
    """The same camera with pictures of another size."""
    K = view.K.clone()
    K[0] *= width / view.width
    K[1] *= height / view.height
    return View(view.viewmat, K, width, height)


def of_ids(
    truth: GroundTruth,
    absent: tuple[tuple[str, str], ...] = (),
    only: Iterable[int] | None = None,
    least: float = 1.0,
) -> Benchmark:
    """A benchmark from ids: things of one text are one prompt, asked for in the plural if there are several.

    A view counts for a prompt of which it shows enough (`tabletop.MIN_PIXELS`, times `least`).

    Raises:
        UserError: the ground truth has no id in any view.
    """
    numbers: dict[str, list[int]] = {}
    for number, text in sorted(truth.labels.items()):
        if only is None or number in only:
            numbers.setdefault(text, []).append(number)
    sizes = {frame: truth.ids(frame).shape for frame in truth.files}

    def read(frame: str) -> Masks:
        ids = truth.ids(frame)
        seen = {text: [n for n in shown(ids, group, least)] for text, group in numbers.items()}
        return {text: np.isin(ids, numbers[text]) for text, there in seen.items() if there}

    several = frozenset(text for text, group in numbers.items() if len(group) > 1)
    return Benchmark(truth.folder, "ids", sizes, tuple(numbers), read, several, absent)


def pairs_of(benchmark: Benchmark, frames: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(frame, prompt) of everything that is scored."""
    for frame in frames:
        for prompt in benchmark.masks(frame):
            yield frame, prompt
