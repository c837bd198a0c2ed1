import numpy as np
import pytest
import torch
from PIL import Image

from ag2_ns.cli.main import COMMANDS, main
from ag2_ns.cli.pictures import depth_colors, to_uint8
from ag2_ns.cli.sheet import CELL, contact_sheet


def test_to_uint8_rounds_and_clamps():
    image = torch.tensor([[[-1.0, 0.5, 2.0]]])
    assert to_uint8(image).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize("depth", [torch.linspace(1, 5, 60).reshape(6, 10, 1), torch.full((6, 10, 1), 3.0)])
def test_depth_colors(depth):
    colors = depth_colors(depth)
    assert colors.shape == (6, 10, 3) and colors.min() >= 0 and colors.max() <= 1
    if depth.std() > 0:
        assert not torch.equal(colors[0, 0], colors[-1, -1])


def test_a_sheet_shows_every_picture_in_its_cell(tmp_path):
    red, green = np.full((30, 40, 3), (255, 0, 0), np.uint8), np.full((30, 40, 3), (0, 255, 0), np.uint8)
    contact_sheet(tmp_path / "new" / "sheet.png", [[red, green], [green, red]], ["one", "two"], ["first", "second"])
    sheet = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    for colour in ((255, 0, 0), (0, 255, 0)):
        hits = (sheet == colour).all(2)
        assert hits.sum() == 2 * 30 * 40
        columns = hits.any(0).nonzero()[0]
        assert columns.min() < 44 < columns.max()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["sheet.png"]


def test_large_pictures_are_made_smaller(tmp_path):
    big = np.zeros((600, 900, 3), np.uint8)
    contact_sheet(tmp_path / "sheet.png", [[big]], ["a"], ["b"])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width <= CELL + 8


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_subcommand_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"ag2 {name}" in capsys.readouterr().out


def test_no_subcommand_lists_them_all(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code != 0
    said = "".join(capsys.readouterr())
    with pytest.raises(SystemExit):
        main(["--help"])
    said += capsys.readouterr().out
    assert all(name in said for name in COMMANDS)


def test_stopping_is_no_error_message(monkeypatch, capsys):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("ag2_ns.cli.example.Example.main", stop)
    with pytest.raises(SystemExit) as ended:
        main(["example", "somewhere"])
    assert ended.value.code == 130 and capsys.readouterr().err.strip() == "stopped"
