"""A browser tab without a browser: speaks viser's protocol, so that the whole server can be tested quickly."""

from __future__ import annotations

import io
import threading
import time

import msgspec
import numpy as np
import torch
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ag2_ns.core.view import View

SHARP = 512
"""Pixels across that nerfstudio's viewer draws of a camera at rest."""


class Tab:
    def __init__(self, port: int, c2w: np.ndarray, fov: float = 0.8, aspect: float = 4 / 3):
        import viser.transforms as vtf

        self._socket = connect(f"ws://127.0.0.1:{port}", max_size=None)
        self._elements: dict[str, dict] = {}
        self.nodes: set[str] = set()
        self.pictures = 0
        self._image = b""
        self.clickable: set[str] = set()
        self.began: tuple[float, ...] = ()
        """Where the page was led to, in viser's units."""
        self.dragging = False
        """Whether a drag draws a box."""
        self.led = False
        """Whether the page was led to a training camera; the tab has gone back since."""
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        turn = vtf.SO3.from_matrix(c2w[:3, :3]) @ vtf.SO3.from_x_radians(np.pi)
        self.eye = c2w[:3, 3]
        self._c2w, self._fov, self._aspect = c2w, fov, aspect
        self._wxyz = turn.wxyz.tolist()
        self._thread.start()
        self._stand()

    def _stand(self) -> None:
        """Look from where the test stands."""
        self.send(
            "ViewerCameraMessage", wxyz=self._wxyz, position=(10 * self.eye).tolist(), fov=self._fov,
            aspect=self._aspect, look_at=[0.0, 0.0, 0.0], up_direction=[0.0, 0.0, 1.0],
        )  # fmt: skip

    def view(self, width: int = 64) -> View:
        """The camera of where the test stands."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self._c2w[:3, :3] * (1, -1, -1), self.eye
        height = round(width / self._aspect)
        focal = height / 2 / np.tan(self._fov / 2)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return View(torch.from_numpy(np.linalg.inv(pose)).float(), K, width, height)

    def send(self, kind: str, **content) -> None:
        self._socket.send(msgspec.msgpack.encode({"type": kind, **content}))

    def close(self) -> None:
        self._socket.close()
        self._thread.join(5)

    def _listen(self) -> None:
        try:
            for raw in self._socket:
                batch = msgspec.msgpack.decode(raw)
                with self._news:
                    for message in batch:
                        self._take(message)
                    self._news.notify_all()
        except ConnectionClosed:
            pass

    def _take(self, m: dict) -> None:
        kind = m["type"]
        if kind.startswith("GuiAdd"):
            self._elements[m["id"]] = m
        elif kind == "GuiUpdateMessage" and m["id"] in self._elements:
            self._elements[m["id"]] |= m["updates"]
        elif kind == "BackgroundImageMessage":
            self.pictures, self._image = self.pictures + 1, m["rgb_bytes"]
        elif kind.startswith("SetCamera"):
            if kind == "SetCameraPositionMessage":
                self.began = tuple(m["position"])
            self._stand()
            self.led = self.led or kind == "SetCameraUpDirectionMessage"  # the last of those that turn the page
        elif kind == "ScenePointerEnableMessage":
            self.dragging = bool(m["enable"])
        elif kind == "SetSceneNodeClickableMessage":
            self.clickable.add(m["name"])
        elif kind in ("PointCloudMessage", "MeshMessage", "TransformControlsMessage"):
            self.nodes.add(m["name"])
        elif kind == "RemoveSceneNodeMessage":
            self.nodes.discard(m["name"])

    def until(self, what, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        with self._news:
            while not what():
                assert time.monotonic() < end, f"did not come about; the note says: {self.note()!r}"
                self._news.wait(0.05)

    def element(self, label: str, kind: str) -> dict:
        found = [e for e in self._elements.values() if e.get("label") == label and kind in e["type"]]
        assert found, f"no {kind} called {label!r}"
        return found[-1]

    def note(self) -> str:
        notes = [e["markdown"] for e in self._elements.values() if "Markdown" in e["type"]]
        return "\n".join(n for n in notes if "Resolution" not in n)

    def press(self, caption: str) -> None:
        rows = [e for e in self._elements.values() if "ButtonGroup" in e["type"] and caption in e["options"]]
        assert rows, f"no button {caption!r}"
        self.send("GuiUpdateMessage", id=rows[-1]["id"], updates={"value": caption})

    def set(self, label: str, value, kind: str = "") -> None:
        self.send("GuiUpdateMessage", id=self.element(label, kind)["id"], updates={"value": value})

    def click(self, point) -> None:
        """Click where a point of the scene is seen, as the browser tells it (its rays are wrong, see layers.py)."""
        x, y, z = self._c2w[:3, :3].T @ (np.asarray(point, float) - self.eye)
        half = np.tan(self._fov / 2)
        self.click_place(float(0.5 + x / -z / (2 * half * self._aspect)), float(0.5 - y / -z / (2 * half)))

    def click_place(self, across: float, down: float) -> None:
        """Click on a place of the screen, 0 to 1."""
        place = [across, down]
        self.send(
            "SceneNodeClickMessage", name="/click_catcher", instance_index=None, ray_origin=[0.0, 0.0, 0.0],
            ray_direction=[1.0, 0.0, 0.0], screen_pos=place,
        )  # fmt: skip

    def drag_box(self, point, half: float) -> None:
        """Drag a box of a half width (share of the screen's height) around where a point of the scene is seen."""
        x, y, z = self._c2w[:3, :3].T @ (np.asarray(point, float) - self.eye)
        tan = np.tan(self._fov / 2)
        across, down = float(0.5 + x / -z / (2 * tan * self._aspect)), float(0.5 - y / -z / (2 * tan))
        corners = [[across - half / self._aspect, down - half], [across + half / self._aspect, down + half]]
        self.send(
            "ScenePointerMessage", event_type="rect-select", ray_origin=None, ray_direction=None, screen_pos=corners
        )

    def seen(self, what=lambda picture: True, seconds: float = 60.0) -> np.ndarray:
        """Wait for a sharp picture of which something holds; small ones are shown while a sharp one is drawn."""
        end, looked = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            with self._news:
                self._news.wait_for(lambda looked=looked: self.pictures > looked, 0.5)
                looked, image = self.pictures, self._image
            if image:
                picture = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
                if picture.shape[1] >= SHARP and what(picture):
                    return picture
        raise AssertionError(f"no such picture came; the note says: {self.note()!r}")
