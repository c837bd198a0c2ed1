"""What a clean removal looks at, gathered from a model and the data it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ag2_ns.core.errors import UserError
from ag2_ns.edit.cleanup import spread_views
from ag2_ns.edit.steps import Surroundings
from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.plugin.views import view_of

if TYPE_CHECKING:
    from ag2_ns.plugin.model import AG2Model
    from ag2_ns.scene.scene_index import SceneIndex


def surroundings(
    model: AG2Model,
    index: SceneIndex,
    manager: Any,
    edited: bool = False,
    level: float = 0.5,
    progress: Callable[[float], None] | None = None,
) -> Surroundings:
    """Graph, instances, training views and their masks; slow where images must be undistorted first.

    Args:
        model: whose Gaussians are edited.
        index: its instances.
        manager: its datamanager; None where nothing is known of the data.
        edited: whether there are edits already: the masks may be out of date then and are left out.
        level: the granularity of the instances around.
        progress: told the part done, 0 to 1, while a removal looks at the views.

    Raises:
        UserError: the run does not say what it was trained on.
    """
    if manager is None:
        raise UserError("the run does not say what data it was trained on; open it with its own config.yml")
    _ = manager.cached_train  # cameras are those of the undistorted images from here on
    cameras = manager.train_dataset.cameras
    views: Sequence[Any] = [view_of(cameras[i : i + 1].to(model.device)) for i in range(len(cameras))]
    masks = None
    if not edited and hasattr(manager, "view_masks") and manager.view_masks() is not None:
        prepared = [manager.prepared("train", i) for i in range(len(views))]
        masks = None if any(p is None for p in prepared) else [p.masks for p in prepared]
    graph = AnchorGraph(index.edges, index.num_anchors)
    if progress is not None:
        views = Watched(views, 3 * len(spread_views(views)), progress)
    return Surroundings(graph, index.gaussian_node(level), views, model.backend(), masks)


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
