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
import warnings
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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium"),
    pytest.mark.skipif(sync_playwright is None, reason="no playwright: pip install playwright"),
]

FLAGS = [
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZE = {"width": 1280, "height": 860} if "AG2_BROWSER_RUN" in os.environ else {"width": 900, "height": 720}
TOP, PANEL = 52, 320
"""Pixels of the title bar and of the panel; the scene is drawn in software, so the page is kept small."""


START = """
import sys
from nerfstudio.scripts.viewer.run_viewer import entrypoint
sys.argv = ["ns-viewer", *sys.stdin.readline().split("\\t")]
entrypoint()
"""
"""`ns-viewer`, which imports everything while its run is still being made, and reads its arguments then."""


class Server:
    """`ns-viewer` in a process of its own."""

    def __init__(self, log: Path):
        self.log = log
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        with log.open("w") as out:
            env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
            command = [sys.executable, "-c", START]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, stdout=out, stderr=out, env=env)

    def open(self, config: Path) -> None:
        """Show a run."""
        self.folder = config.parent
        options = ["--load-config", str(config), "--viewer.websocket-port", str(self.port)]
        self.process.stdin.write("\t".join([*options, "--viewer.websocket-host", "127.0.0.1"]))
        self.process.stdin.close()

    def address(self, seconds: float = 200) -> str:
        """Where the page is, once it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                pytest.fail(self.log.read_text()[-3000:])
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return f"http://127.0.0.1:{self.port}"
            time.sleep(0.1)
        raise AssertionError("no viewer came up")


@pytest.fixture
def server(request, tmp_path):
    server = Server(tmp_path / "viewer.log")
    try:
        server.open(Path(os.environ.get("AG2_BROWSER_RUN") or request.getfixturevalue("blob_run")))
        yield server
        # nerfstudio itself may stumble over a tab that was just closed.
        tracebacks = server.log.read_text().split("Traceback")[1:]
        assert not any("ag2_ns" in t for t in tracebacks), tracebacks
    finally:
        server.process.terminate()
        server.process.wait(10)


class Page:
    """A page of the viewer and what a person does on it."""

    def __init__(self, page, keep: Path | None):
        self.page, self.keep = page, keep

    def note(self) -> str:
        text = self.page.locator("body").inner_text()
        return text[text.index("AG2aussian\n") : text.index("Click to")].replace("\n", " ")

    def until(self, *words: str, gone: str | None = None, seconds: float = 60) -> str:
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

    def slide_up(self, thumb, value: float) -> None:
        """Press the right arrow until the slider shows a value; a busy page takes several presses for one."""
        end = time.monotonic() + 30
        while float(thumb.get_attribute("aria-valuenow")) < value - 1e-6:
            assert time.monotonic() < end, "the slider does not move"
            thumb.press("ArrowRight")
            time.sleep(0.1)

    def find(self, text: str, answer: str) -> None:
        """Type a text and press Find; again where a busy page swallowed it."""
        for patience in (10, 20, 30):
            self.field("Find").fill("")
            self.field("Find").fill(text)
            self.press("Find")
            try:
                self.until(answer, seconds=patience)
                return
            except AssertionError as error:
                if patience == 30:
                    raise
                held = self.field("Find").input_value()
                warnings.warn(f"{text!r} typed again; the box holds {held!r}: {error}", stacklevel=2)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def canvas(self) -> np.ndarray:
        """What the scene shows, left of the panel."""
        size = {"width": SIZE["width"] - PANEL, "height": SIZE["height"] - TOP}
        raw = self.page.screenshot(clip={"x": 0, "y": TOP, **size})
        return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int)

    def seen(self, what=lambda picture: True, seconds: float = 60) -> np.ndarray:
        """Wait for a picture of which something holds and that no longer moves."""
        end, old = time.monotonic() + seconds, self.canvas()
        while time.monotonic() < end:
            time.sleep(0.4)
            new = self.canvas()
            if np.abs(new - old).mean() < 0.1 and what(new):
                return new
            old = new
        raise AssertionError(f"no such picture came; the panel says: {self.note()}")

    def shot(self, name: str) -> None:
        if self.keep is not None:
            self.page.screenshot(path=self.keep / f"{name}.png")

    def unfold(self, title: str) -> None:
        """Open a folder of the panel."""
        self.page.get_by_text(title, exact=True).first.click()

    def click_on(self, where: np.ndarray) -> None:
        """Click into the middle of the pixels in a mask of the canvas."""
        rows, columns = np.nonzero(where)
        k = np.argmin((rows - np.median(rows)) ** 2 + (columns - np.median(columns)) ** 2)
        self.page.mouse.move(int(columns[k]), int(rows[k]) + TOP)
        time.sleep(0.2)
        self.page.mouse.click(int(columns[k]), int(rows[k]) + TOP)

    def drag(self, dx: int, dy: int) -> None:
        self.page.mouse.move(280, 400)
        self.page.mouse.down()
        for k in range(1, 11):
            self.page.mouse.move(280 + dx * k / 10, 400 + dy * k / 10)
            time.sleep(0.03)
        time.sleep(0.3)  # let the camera come to rest
        self.page.mouse.up()


@pytest.fixture
def page(server):
    keep = Path(os.environ["AG2_SCREENSHOTS"]) if "AG2_SCREENSHOTS" in os.environ else None
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=FLAGS)  # while the server starts
        page = browser.new_page(viewport=SIZE)
        page.goto(server.address(), wait_until="domcontentloaded")
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
    # It loads.
    page.until("Click on something")
    first = page.seen(lambda p: red(p).sum() > 200 and blue(p).sum() > 200)
    page.shot("1_loaded")
    # It orbits.
    page.drag(100, 0)
    turned = page.seen(lambda p: np.abs(p - first).mean() > 3 and red(p).sum() > 200 and blue(p).sum() > 200)
    page.shot("2_orbited")
    assert "Click on something" in page.note()  # dragging is not clicking
    # A click selects, says what, and the picture shows it.
    page.click_on(red(turned))
    page.until("red ball", "90 Gaussians")
    around = ~red(turned)
    clicked = page.seen(lambda p: orange(p).sum() > 50 and p[around].mean() < 0.9 * turned[around].mean())
    page.shot("3_clicked")
    # The slider: from the object to its parts.
    thumb = page.thumb("Granularity")
    box = thumb.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] - 200, box["y"] + box["height"] / 2, steps=8)
    page.page.mouse.up()
    page.until("of the red ball", gone="90 Gaussians")
    page.shot("4_part")
    page.slide_up(thumb, 0.55)  # objects begin at 0.5
    try:
        page.until("90 Gaussians", gone="of the red ball")
    except AssertionError as error:
        # Now and then viser's page goes on showing what the server has long replaced (and sent): move once more.
        warnings.warn(f"the slider moved again: {error}", stacklevel=2)
        page.slide_up(thumb, 0.65)
        page.until("90 Gaussians", gone="of the red ball")
    # A text.
    page.field("Find").fill("blue ball")
    page.until("blue ball", "score")
    ball, other = blue(turned), red(turned)
    page.seen(  # tinted, while the rest is dark
        lambda p: (
            p[ball][:, 0].mean() > clicked[ball][:, 0].mean() + 30 and p[other].mean() < 0.6 * clicked[other].mean()
        )
    )
    page.shot("5_asked")
    # Nonsense is answered in the panel.
    page.find("walrus", "nothing here is called that")
    # Delete, and see it gone.
    page.press("Delete")
    page.until("1 edit", "hole closed", gone="closing holes", seconds=60)
    page.seen(lambda p: blue(p).sum() < 0.1 * ball.sum())
    page.shot("6_deleted")
    page.unfold("Save")
    page.press("Edits")
    page.until("saved")
    assert (server.folder / "ag2_edits.npz").exists()
    # Undo, and see it again.
    page.press("Undo")
    page.until("blue ball", "score")
    page.press("Clear")
    page.until("Click on something")
    back = page.seen(lambda p: blue(p).sum() > 0.7 * ball.sum() and red(p).sum() > 0.7 * other.sum())
    page.shot("7_undone")
    # Show the graph and the gizmo.
    page.click_on(red(back))
    page.until("red ball")
    page.unfold("Show")
    page.field("Graph").click()
    page.unfold("Move")
    page.field("Gizmo").click()
    page.seen(lambda p: np.abs(p - back).mean() > 1)
    page.shot("8_gizmo")


@pytest.mark.skipif("AG2_BROWSER_RUN" not in os.environ, reason="for screenshots: set AG2_BROWSER_RUN to a config.yml")
def test_screenshots_of_a_real_run(page):
    page.seen()
    page.shot("run_1_loaded")
    page.field("Find").fill(os.environ.get("AG2_BROWSER_TEXT", "red mug"))
    page.until("score")
    page.seen()
    page.shot("run_2_asked")
    page.unfold("Show")
    page.field("Graph").click()
    page.seen()
    page.shot("run_3_graph")
    page.field("Graph").click()
    page.unfold("Move")
    page.field("Gizmo").click()
    page.seen()
    page.shot("run_4_gizmo")
    page.press("Delete")
    page.until("1 edit", gone="closing holes", seconds=300)
    page.seen()
    page.shot("run_5_deleted")
    page.press("Undo")
    page.until("score")
