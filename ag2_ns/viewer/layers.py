"""What the viewer has in three dimensions on top of the picture: anchors with their graph, a gizmo, a click catcher.

While a scene-wide pointer callback is registered (nerfstudio's `register_pointer_cb`), viser 0.2 lets no drag turn the
camera, and takes the end of every drag for a click. Clickable scene nodes have neither fault, so clicks are caught by
an invisible sphere around everything, whose inside is its front. Of such a click only the place on the screen is right
(the ray that comes with it is not); the ray follows from the tab's camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from ag2_ns.edit.operations import Quaternion, Vector
from ag2_ns.graph.scene_index import SceneIndex

SCALE = 10.0
"""nerfstudio draws the scene ten times as large in viser."""

MOST_ANCHORS, MOST_EDGES = 20_000, 4_000
"""More are thinned out: a browser must draw them."""

AROUND = 40.0
"""Radius of the sphere that catches clicks, scene units; nerfstudio's cameras lie within 1 or so."""

SAMPLES = 6
"""Points that stand for an edge; viser 0.2.7 has no line segments."""


@dataclass(frozen=True)
class Dots:
    """A point cloud, scene units."""

    points: Float[np.ndarray, "P 3"]
    colors: Float[np.ndarray, "P 3"]


def anchor_dots(index: SceneIndex, chosen: Bool[Tensor, " A"]) -> tuple[Dots, Dots]:
    """The chosen anchors, and the edges of the graph between them, as dotted lines; evenly thinned if they are many."""
    anchors = chosen.nonzero().squeeze(1)
    anchors = anchors[:: max(1, -(-len(anchors) // MOST_ANCHORS))]
    a, b = index.edges
    inner = (chosen[a] & chosen[b] & (a < b)).nonzero().squeeze(1)
    inner = inner[:: max(1, -(-len(inner) // MOST_EDGES))]
    start, end = index.anchor_xyz[a[inner]], index.anchor_xyz[b[inner]]
    t = torch.linspace(0, 1, SAMPLES + 2, device=start.device)[1:-1, None, None]
    lines = torch.lerp(start[None], end[None], t).reshape(-1, 3)
    at = index.anchor_xyz[anchors]
    return _dots(at, (1.0, 0.6, 0.1)), _dots(lines, (0.3, 0.8, 1.0))


def screen_ray(place: tuple[float, float], wxyz: Quaternion, fov: float, aspect: float) -> Vector:
    """The direction that a place on the screen shows.

    Args:
        place: across and down, 0 to 1.
        wxyz: the camera's rotation, camera to world, x right, y down, z forward.
        fov: vertical, radians.
        aspect: width over height.
    """
    half = np.tan(fov / 2)
    x, y, z = (place[0] - 0.5) * 2 * half * aspect, (place[1] - 0.5) * 2 * half, 1.0
    w, *rest = (float(v) for v in wxyz)
    direction = Rotation.from_quat([*rest, w]).apply([x, y, z])
    return tuple(float(v) for v in direction / np.linalg.norm(direction))


def _dots(points: Tensor, color: tuple[float, float, float]) -> Dots:
    xyz = points.detach().cpu().numpy().astype(np.float32)
    return Dots(xyz, np.broadcast_to(np.array(color, np.float32), xyz.shape).copy())


class Layers:
    """Scene nodes of one viser server that belong to the panel. Does nothing while `server` is None."""

    def __init__(self) -> None:
        self.server: Any = None
        self._nodes: dict[str, Any] = {}
        self._gizmo: Any = None

    def listen(self, clicked: Callable[[Vector, Vector], None]) -> None:
        """Tell `clicked` the ray of every click on the picture: origin (scene units) and direction."""
        if self.server is None:
            return
        import trimesh

        sphere = trimesh.creation.icosphere(subdivisions=1, radius=AROUND * SCALE)
        inwards = np.ascontiguousarray(sphere.faces[:, ::-1]).astype(np.uint32)
        node = self.server.scene.add_mesh_simple(
            "/click_catcher", np.asarray(sphere.vertices, np.float32), inwards, opacity=0.0, side="front"
        )

        @node.on_click
        def _(event: Any) -> None:
            camera = event.client.camera
            direction = screen_ray(event.screen_pos, camera.wxyz, camera.fov, camera.aspect)
            clicked(tuple(float(v) / SCALE for v in camera.position), direction)

    def show_anchors(self, index: SceneIndex | None, chosen: Bool[Tensor, " A"] | None, size: float) -> None:
        """Show the chosen anchors and their edges; None shows none.

        Args:
            index: the scene.
            chosen: the anchors.
            size: of a dot, scene units.
        """
        if self.server is None:
            return
        parts = (None, None) if index is None or chosen is None else anchor_dots(index, chosen)
        for name, dots, width in zip(("/selected_anchors", "/selected_edges"), parts, (size, size / 3)):
            if dots is None or len(dots.points) == 0:
                node = self._nodes.pop(name, None)
                if node is not None:
                    node.remove()
                continue
            self._nodes[name] = self.server.scene.add_point_cloud(
                name, points=dots.points * SCALE, colors=dots.colors, point_size=width * SCALE, point_shape="circle"
            )

    def show_gizmo(
        self,
        centre: Vector,
        size: float,
        moved: Callable[[Vector, Quaternion], None],
    ) -> None:
        """Show a gizmo at a point (scene units); `moved` is told its position and rotation w, x, y, z."""
        if self.server is None:
            return
        self.hide_gizmo()
        gizmo = self.server.scene.add_transform_controls(
            "/selected_gizmo", scale=size * SCALE, position=tuple(c * SCALE for c in centre), depth_test=False
        )
        gizmo.on_update(lambda g: moved(tuple(float(p) / SCALE for p in g.position), tuple(float(w) for w in g.wxyz)))
        self._gizmo = gizmo

    def place_gizmo(self, position: Vector, wxyz: Quaternion) -> None:
        """Move the gizmo, if it is shown."""
        if self._gizmo is not None:
            self._gizmo.position = tuple(p * SCALE for p in position)
            self._gizmo.wxyz = wxyz

    @property
    def gizmo_shown(self) -> bool:
        """Whether the gizmo is there."""
        return self._gizmo is not None

    def hide_gizmo(self) -> None:
        """Take the gizmo away."""
        gizmo, self._gizmo = self._gizmo, None
        if gizmo is not None:
            gizmo.remove()
