"""What a clean removal looks at, gathered for a session, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ag2_ns.edit.cleanup import spread_views
from ag2_ns.edit.steps import Surroundings
from ag2_ns.errors import UserError
from ag2_ns.gaussians.views import view_of
from ag2_ns.graph.anchor_graph import AnchorGraph

if TYPE_CHECKING:
    from ag2_ns.viewer.session import Session


def surroundings(session: Session, edited: bool, progress: Callable[[float], None] | None = None) -> Surroundings:
    """What a clean removal looks at; slow.

    Args:
        session: a session that is connected to its data.
        edited: whether there were edits before: the masks may be out of date then and are left out.
        progress: told the part done, 0 to 1, while the views are looked at.

    Raises:
        UserError: before instances exist, or the run does not say what it was trained on.
    """
    index, manager = session.index(), session.datamanager
    if manager is None:
        raise UserError("the run does not say what data it was trained on; open it with its own config.yml")
    _ = manager.cached_train  # cameras are those of the undistorted images from here on
    cameras = manager.train_dataset.cameras
    views = [view_of(cameras[i : i + 1].to(session.model.device)) for i in range(len(cameras))]
    masks = None
    if not edited and hasattr(manager, "view_masks") and manager.view_masks() is not None:
        prepared = [manager.prepared("train", i) for i in range(len(views))]
        masks = None if any(p is None for p in prepared) else [p.masks for p in prepared]
    graph = AnchorGraph(index.edges, index.num_anchors)
    looks = 3 * len(spread_views(views))
    return Surroundings(
        graph, index.gaussian_node(0.5), Watched(views, looks, progress), session.model.backend(), masks
    )


class Watched(Sequence):
    """A sequence that says how many of the expected looks at its items were taken."""

    def __init__(self, items: Sequence[Any], expected: int, progress: Callable[[float], None] | None) -> None:
        self._items, self._expected, self._progress, self._taken = items, expected, progress, 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: Any) -> Any:
        self._taken += 1
        if self._progress is not None:
            self._progress(min(self._taken / max(self._expected, 1), 0.99))
        return self._items[key]
