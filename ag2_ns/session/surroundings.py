"""What a clean removal looks at, gathered from a scene and the masks of its capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import NamedView
from ag2_ns.edit.config import EditConfig
from ag2_ns.edit.steps import Surroundings
from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.scene.scene import Scene, Source


def surroundings(
    scene: Scene,
    edited: bool = False,
    level: float = 0.5,
    progress: Callable[[float], None] | None = None,
) -> Surroundings:
    """Graph, instances, training views and their masks.

    Args:
        scene: as trained.
        edited: whether there are edits already: the masks may be out of date then and are left out.
        level: the granularity of the instances around.
        progress: told the part done, 0 to 1, while a removal looks at the views.

    Raises:
        UserError: no instances, or no cameras.
    """
    index, named = scene.require_index(), scene.of_split("train")
    if not named:
        raise UserError("the scene has no training cameras, so nothing tells what lies behind things")
    views: Sequence[Any] = [v.view for v in named]
    masks = None if edited or scene.source is None else StoredMasks.of(scene.source, named)
    config = scene.config(EditConfig)
    graph = AnchorGraph(index.edges, index.num_anchors)
    if progress is not None:
        views = Watched(views, 3 * min(len(views), config.max_views), progress)
    return Surroundings(graph, index.gaussian_node(level), views, scene.rasterizer, masks, config)


class StoredMasks(Sequence[MaskSet | None]):
    """The masks of views, read when they are looked at: a removal looks at a few of perhaps a thousand views."""

    def __init__(self, store: MaskStore, views: Sequence[NamedView]) -> None:
        self._store, self._views = store, views

    @staticmethod
    def of(source: Source, views: Sequence[NamedView]) -> StoredMasks | None:
        """The masks of a capture; None where it has none."""
        if not MaskStore.exists(source.data, source.downscale):
            return None
        try:
            return StoredMasks(MaskStore.open(source.data, source.downscale), views)
        except UserError:  # they only sharpen borders
            return None

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, key: Any) -> Any:
        """The masks of a view; None where they are damaged or of pictures of another size."""
        view = self._views[key]
        try:
            masks = self._store.read(view.key)
        except UserError:
            return None
        return masks if (masks.width, masks.height) == (view.view.width, view.view.height) else None


class Watched(Sequence):
    """A sequence that says how many of the expected looks at its items were taken."""

    def __init__(self, items: Sequence[Any], expected: int, progress: Callable[[float], None]) -> None:
        self._items, self._expected, self._progress, self._taken = items, expected, progress, 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: Any) -> Any:
        self._taken += 1
        self._progress(min(self._taken / max(self._expected, 1), 0.99))
        return self._items[key]
