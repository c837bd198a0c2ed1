"""What the viewer has in three dimensions on top of the picture: anchors with their graph, a gizmo, a click catcher.

While a scene-wide pointer callback is registered (nerfstudio's `register_pointer_cb`), viser 0.2 lets no drag turn the
camera, and takes the end of every drag for a click. Clickable scene nodes have neither fault, so clicks are caught by
an invisible sphere around everything, whose inside is its front. Of such a click only the place on the screen is right
(the ray that comes with it is not); the ray follows from the tab's camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt32
from scipy.spatial.transform import Rotation
from torch import Tensor

from ag2_ns.core.view import View
from ag2_ns.edit.operations import Quaternion, Vector
from ag2_ns.scene.scene_index import SceneIndex

SCALE = 10.0
"""nerfstudio draws the scene ten times as large in viser."""

MOST_ANCHORS, MOST_EDGES = 20_000, 4_000
"""More are thinned out: a browser must draw them."""

AROUND = 40.0
"""Least radius of the sphere that catches clicks, scene units; nerfstudio's cameras lie within 1 or so."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom on the screen, 0 to 1."""

ANCHOR_COLOR, EDGE_COLOR = (255, 153, 26), (77, 204, 255)


@dataclass(frozen=True)
class Mesh:
    """Triangles, scene units."""

    vertices: Float[np.ndarray, "P 3"]
    faces: UInt32[np.ndarray, "T 3"]


def anchor_points(index: SceneIndex, chosen: Bool[Tensor, " A"]) -> Float[np.ndarray, "P 3"]:
    """The chosen anchors, evenly thinned if they are many."""
    anchors = chosen.nonzero().squeeze(1)
    anchors = anchors[:: max(1, -(-len(anchors) // MOST_ANCHORS))]
    return index.anchor_xyz[anchors].detach().cpu().numpy().astype(np.float32)


def edge_mesh(index: SceneIndex, chosen: Bool[Tensor, " A"], width: float) -> Mesh:
    """The graph's edges between chosen anchors, evenly thinned if they are many, as one mesh of thin prisms.

    viser 0.2 has no line segments; a mesh is a single message, and the browser draws it at once.

    Args:
        index: the scene.
        chosen: the anchors.
        width: of an edge, scene units.
    """
    a, b = index.edges
    inner = (chosen[a] & chosen[b] & (a < b)).nonzero().squeeze(1)
    inner = inner[:: max(1, -(-len(inner) // MOST_EDGES))]
    ends = index.anchor_xyz[torch.stack([a[inner], b[inner]], 1)].double()
    along = torch.nn.functional.normalize(ends[:, 1] - ends[:, 0], dim=1)
    helper = torch.eye(3, dtype=along.dtype, device=along.device)[along.abs().argmin(1)]
    side = torch.nn.functional.normalize(torch.linalg.cross(along, helper), dim=1)
    angle = torch.arange(3, dtype=along.dtype, device=along.device) * (2 * torch.pi / 3)
    third = torch.linalg.cross(along, side)[:, None]
    rim = (angle.cos()[:, None] * side[:, None] + angle.sin()[:, None] * third) * (width / 2)  # [E, 3, 3]
    vertices = (ends[:, :, None] + rim[:, None]).reshape(-1, 3)  # six per edge: three at its start, three at its end
    prism = torch.tensor(
        [[k, (k + 1) % 3, 3 + k] for k in range(3)] + [[(k + 1) % 3, 3 + (k + 1) % 3, 3 + k] for k in range(3)]
    )
    faces = (prism + 6 * torch.arange(len(inner))[:, None, None]).reshape(-1, 3)
    return Mesh(vertices.cpu().numpy().astype(np.float32), faces.numpy().astype(np.uint32))


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


def view_of(camera: Any, height: int = 1000) -> View:
    """A tab's camera (scene units) as a view of so many rows."""
    w, x, y, z = (float(v) for v in camera.wxyz)
    turn = Rotation.from_quat((x, y, z, w)).as_matrix().T
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -turn @ (np.asarray(camera.position, float) / SCALE)
    width = max(1, round(height * float(camera.aspect)))
    focal = height / 2 / np.tan(float(camera.fov) / 2)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return View(torch.tensor(pose).float(), torch.tensor(K).float(), width, height)


class Layers:
    """Scene nodes of one viser server that belong to the panel. Does nothing while `server` is None."""

    def __init__(self) -> None:
        self.server: Any = None
        self._nodes: dict[str, Any] = {}
        self._gizmo: Any = None

    def listen(self, clicked: Callable[[Vector, Vector], None], reach: float = 0.0) -> None:
        """Tell `clicked` the ray of every click on the picture: origin (scene units) and direction.

        Args:
            clicked: see above.
            reach: how far from the origin cameras may go at least, scene units.
        """
        if self.server is None:
            return
        import trimesh

        sphere = trimesh.creation.icosphere(subdivisions=1, radius=max(AROUND, reach) * SCALE)
        inwards = np.ascontiguousarray(sphere.faces[:, ::-1]).astype(np.uint32)
        node = self.server.scene.add_mesh_simple(
            "/click_catcher", np.asarray(sphere.vertices, np.float32), inwards, opacity=0.0, side="front"
        )

        @node.on_click
        def _(event: Any) -> None:
            if not all(0 <= p <= 1 for p in event.screen_pos):
                return  # outside of the canvas: nothing that anybody sees
            camera = event.client.camera
            direction = screen_ray(event.screen_pos, camera.wxyz, camera.fov, camera.aspect)
            clicked(tuple(float(v) / SCALE for v in camera.position), direction)

    @staticmethod
    def look_through(client: Any, view: View) -> None:
        """Let a tab of the page look through a camera (scene units)."""
        pose = view.viewmat.detach().double().cpu().numpy()
        x, y, z, w = Rotation.from_matrix(pose[:3, :3].T).as_quat().tolist()
        client.camera.position = tuple(SCALE * -(pose[:3, :3].T @ pose[:3, 3]))
        client.camera.wxyz = (w, x, y, z)

    def present_view(self) -> View | None:
        """The camera (scene units) of the tab that moved last; None without a tab."""
        clients = [] if self.server is None else list(self.server.get_clients().values())
        if not clients:
            return None
        return view_of(max((c.camera for c in clients), key=lambda c: getattr(c, "update_timestamp", 0.0)))

    def drag_once(self, dragged: Callable[[View, Box], None]) -> None:
        """Let the next drag on the picture draw a box instead of turning the camera.

        `dragged` is told the tab's camera (scene units) and the box, 0 to 1 across and down: left, top, right, bottom.
        """
        if self.server is None:
            return

        @self.server.scene.on_pointer_event("rect-select")
        def _(event: Any) -> None:
            self.server.scene.remove_pointer_callback()
            places = np.clip(np.asarray(event.screen_pos, float), 0, 1)
            dragged(view_of(event.client.camera), (*places.min(0).tolist(), *places.max(0).tolist()))

    def show_anchors(self, index: SceneIndex | None, chosen: Bool[Tensor, " A"] | None, size: float) -> None:
        """Show the chosen anchors and their edges; None shows none.

        Args:
            index: the scene.
            chosen: the anchors.
            size: of a dot, scene units.
        """
        if self.server is None:
            return
        for name in ("/selected_anchors", "/selected_edges"):
            node = self._nodes.pop(name, None)
            if node is not None:
                node.remove()
        if index is None or chosen is None:
            return
        scene, points = self.server.scene, anchor_points(index, chosen)
        if len(points):
            self._nodes["/selected_anchors"] = scene.add_point_cloud(
                "/selected_anchors", points * SCALE, ANCHOR_COLOR, point_size=size * SCALE, point_shape="circle"
            )
        mesh = edge_mesh(index, chosen, size / 4)
        if len(mesh.faces):
            self._nodes["/selected_edges"] = scene.add_mesh_simple(
                "/selected_edges", mesh.vertices * SCALE, mesh.faces, color=EDGE_COLOR, side="double"
            )

    def show_names(self, names: Sequence[tuple[str, Vector]]) -> None:
        """Write names into the view, each at a place (scene units), in place of those before."""
        if self.server is None:
            return
        for name in [n for n in self._nodes if n.startswith("/names/")]:
            self._nodes.pop(name).remove()
        for k, (text, (x, y, z)) in enumerate(names):
            path = f"/names/{k}"
            self._nodes[path] = self.server.scene.add_label(path, text, position=(x * SCALE, y * SCALE, z * SCALE))

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
