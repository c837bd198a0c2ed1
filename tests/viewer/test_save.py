"""Whoever reaches the viewer writes into the run's folder only."""

from contextlib import nullcontext

import pytest
from blob_run import CENTRES

from ag2_ns.core.errors import UserError
from ag2_ns.viewer.panel import Panel
from ag2_ns.viewer.parts.save import inside

EYE = (0.0, 0.0, 2.0)
OUTSIDE = [
    "../piece.ply", "/tmp/piece.ply", "sub/piece.ply", "sub/../../piece.ply", "..", ".", "./", "~/../../piece.ply",
    "link/piece.ply", "linked.ply", "../run2/piece.ply",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A run's folder with links that lead out of it."""
    folder = tmp_path / "run"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "run2").mkdir()
    (folder / "link").symlink_to(tmp_path / "run2")
    (tmp_path / "precious.ply").write_text("precious")
    (folder / "linked.ply").symlink_to(tmp_path / "precious.ply")
    return folder


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_of_the_folder(folder, name):
    with pytest.raises(UserError, match="run's folder only") as error:
        inside(folder, name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["piece.ply", "my piece", "rote Tasse.ply", "a.b.ply", "..ply", "./piece.ply"])
def test_names_in_the_folder(folder, name):
    assert inside(folder, name).parent == folder.resolve()


class Host:
    """A viewer without a page."""

    server = None

    def lock(self):
        return nullcontext()

    def place(self):
        return None

    def redraw(self):
        pass

    def show_output(self, name, instead_of):
        return False


def test_the_panel_writes_nothing_elsewhere(session, loaded, tmp_path):
    panel = Panel(session, Host())
    session.click(EYE, tuple(c - e for c, e in zip(CENTRES["red"], EYE)))
    everything = lambda: sorted(p for p in tmp_path.rglob("*") if p.is_file())  # noqa: E731
    before = everything()
    for name in ("../piece.ply", str(tmp_path / "piece.ply"), "sub/piece.ply", "nerfstudio_models/piece.ply"):
        panel.save.file.value = name
        panel.save.export.actions["Export"]()
        assert panel.wait(60)
        assert "folder only" in panel.note.content and everything() == before, name
    panel.save.file.value = "piece"
    panel.save.export.actions["Export"]()
    assert panel.wait(60)
    assert everything() == sorted([*before, loaded.folder / "piece.ply"]) and "wrote 90 Gaussians" in panel.note.content
