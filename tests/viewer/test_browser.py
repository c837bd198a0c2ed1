"""The viewer as a person uses it: ns-viewer, a browser, a mouse and a keyboard.

Set AG2_SCREENSHOTS to a folder to keep the pictures, and AG2_BROWSER_RUN to a config.yml to use a run of your own (it
must know the text in AG2_BROWSER_TEXT).
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BROWSERS = ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("google-chrome"))
BROWSER = next((b for b in BROWSERS if b and os.path.exists(b)), None)
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

if BROWSER is None:
    pytestmark = pytest.mark.skip(reason="no chromium: apt-get install chromium")
elif sync_playwright is None:
    pytestmark = pytest.mark.skip(reason="no playwright: pip install playwright")

FLAGS = [
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZE = {"width": 1100, "height": 900}


@pytest.fixture
def server(blob_run, tmp_path):
    config = os.environ.get("AG2_BROWSER_RUN", str(blob_run))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [Path(sys.executable).with_name("ns-viewer"), "--load-config", config]
    command += ["--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1"]
    path = tmp_path / "viewer.log"
    with path.open("w") as log:
        env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            for _ in range(400):
                if process.poll() is not None:
                    pytest.fail(path.read_text()[-3000:])
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.25)
            yield f"http://127.0.0.1:{port}", Path(config).parent
            # nerfstudio itself may stumble over a tab that was just closed.
            tracebacks = path.read_text().split("Traceback")[1:]
            assert not any("ag2_ns" in t for t in tracebacks), tracebacks
        finally:
            process.terminate()
            process.wait(10)


class Page:
    """A page of the viewer and what a person does on it."""

    def __init__(self, page, keep: Path):
        self.page, self.keep = page, keep

    def note(self) -> str:
        text = self.page.locator("body").inner_text()
        return text[text.index("AG2\n") : text.index("Click to")].replace("\n", " ")

    def until(self, *words: str, gone: str | None = None, seconds: float = 30) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            note = self.note()
            if all(w in note for w in words) and (gone is None or gone not in note):
                return note
            time.sleep(0.1)
        raise AssertionError(f"the panel does not say {words}: {self.note()}")

    def field(self, label: str):
        return self.page.locator(f'xpath=//label[normalize-space()="{label}"]/following::input[1]')

    def thumb(self, label: str):
        thumb = self.page.locator(f'xpath=//label[normalize-space()="{label}"]/following::*[@role="slider"][1]')
        thumb.scroll_into_view_if_needed()
        return thumb

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def canvas(self) -> np.ndarray:
        """What the scene shows, left of the panel."""
        raw = self.page.screenshot(clip={"x": 0, "y": 60, "width": SIZE["width"] - 330, "height": SIZE["height"] - 60})
        return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int)

    def settled(self, seconds: float = 20) -> np.ndarray:
        """The picture once it no longer changes."""
        end, old = time.monotonic() + seconds, self.canvas()
        while time.monotonic() < end:
            time.sleep(0.7)
            new = self.canvas()
            if np.abs(new - old).mean() < 0.05:
                break
            old = new
        return new

    def shot(self, name: str) -> None:
        self.page.screenshot(path=self.keep / f"{name}.png")

    def click_on(self, where: np.ndarray) -> None:
        """Click into the middle of the pixels in a mask of the canvas."""
        rows, columns = np.nonzero(where)
        k = np.argmin((rows - np.median(rows)) ** 2 + (columns - np.median(columns)) ** 2)
        self.page.mouse.click(int(columns[k]), int(rows[k]) + 60)

    def drag(self, dx: int, dy: int) -> None:
        self.page.mouse.move(380, 450)
        self.page.mouse.down()
        for k in range(1, 21):
            self.page.mouse.move(380 + dx * k / 20, 450 + dy * k / 20)
            time.sleep(0.03)
        self.page.mouse.up()


@pytest.fixture
def page(server, tmp_path):
    keep = Path(os.environ.get("AG2_SCREENSHOTS", tmp_path / "screenshots"))
    keep.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        page.goto(server[0], wait_until="domcontentloaded")
        page.get_by_text("Granularity").wait_for(timeout=60_000)
        yield Page(page, keep)
        browser.close()


def red(picture):
    return (picture[..., 0] > 150) & (picture[..., 1] < 100) & (picture[..., 2] < 100)


def blue(picture):
    return (picture[..., 2] > 150) & (picture[..., 0] < 110)


def orange(picture):
    """Outlines; JPEG blurs them."""
    r, g, b = picture[..., 0], picture[..., 1], picture[..., 2]
    return (r > 160) & (g > 75) & (g < 170) & (b < 100) & (r - g > 50)


@pytest.mark.skipif("AG2_BROWSER_RUN" in os.environ, reason="looks for the balls of its own run")
@pytest.mark.slow
def test_a_person_looks_clicks_asks_deletes_and_undoes(server, page):
    folder = server[1]
    # It loads.
    page.until("Click on something")
    for _ in range(20):
        first = page.settled()
        if red(first).sum() > 200:
            break
    page.shot("1_loaded")
    assert red(first).sum() > 200 and blue(first).sum() > 200
    # It orbits.
    page.drag(150, 0)
    turned = page.settled()
    page.shot("2_orbited")
    assert np.abs(turned - first).mean() > 3
    assert "Click on something" in page.note()  # dragging is not clicking
    # A click selects, and the picture shows it.
    page.click_on(red(turned))
    page.until("instance 1", "90 Gaussians")
    clicked = page.settled()
    page.shot("3_clicked")
    assert orange(clicked).sum() > 50 and clicked.mean() < 0.9 * turned.mean()
    # The slider: from the object to its parts.
    thumb = page.thumb("Granularity")
    box = thumb.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] - 200, box["y"] + box["height"] / 2, steps=8)
    page.page.mouse.up()
    page.until("instance", gone="90 Gaussians")
    page.shot("4_part")
    for _ in range(10):
        thumb.press("ArrowRight")
    page.until("90 Gaussians")
    # A text.
    page.field("Find").fill("blue ball")
    page.until("blue ball", "score")
    asked = page.settled()
    page.shot("5_asked")
    assert orange(asked).sum() > 50
    # Nonsense is answered in the panel.
    page.field("Find").fill("walrus")
    page.press("Find")
    page.until("does not know")
    # Delete, and see it gone.
    page.press("Delete")
    page.until("1 edit", gone="closing holes", seconds=60)
    deleted = page.settled()
    page.shot("6_deleted")
    assert blue(deleted).sum() < 0.1 * blue(turned).sum()
    page.press("Save edits")
    page.until("saved")
    assert (folder / "ag2_edits.npz").exists()
    # Undo, and see it again.
    page.press("Undo")
    page.until("blue ball", "score")
    page.press("Clear")
    page.until("Click on something")
    back = page.settled()
    page.shot("7_undone")
    assert blue(back).sum() > 0.7 * blue(turned).sum()
    # Show the graph and the gizmo.
    page.click_on(red(back))
    page.until("instance 1")
    page.field("Anchors and graph").click()
    page.field("Gizmo").click()
    page.settled()
    page.shot("8_gizmo")


@pytest.mark.skipif("AG2_BROWSER_RUN" not in os.environ, reason="for screenshots: set AG2_BROWSER_RUN to a config.yml")
def test_screenshots_of_a_real_run(page):
    page.settled()
    page.shot("run_1_loaded")
    page.field("Find").fill(os.environ.get("AG2_BROWSER_TEXT", "red mug"))
    page.until("score")
    page.settled()
    page.shot("run_2_asked")
    page.field("Gizmo").click()
    page.settled()
    page.shot("run_3_gizmo")
    page.press("Delete")
    page.until("1 edit", gone="closing holes", seconds=300)
    page.settled()
    page.shot("run_4_deleted")
    page.press("Undo")
    page.until("score")
