from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from tiny_run import ag2


def test_prints_the_tree(blob_run, capsys):
    ag2("tree", "--load-config", blob_run)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("instance 0 [0]  group, level 0.75 to 1.00")
    red = next(k for k, line in enumerate(lines) if "red ball [1]" in line and "object" in line)
    assert "top of the red ball [2]" in lines[red + 1] and "part" in lines[red + 1]
    assert lines[-1] == "1 groups, 4 objects, 2 parts"


def test_json_alone(blob_run, capsys):
    ag2("tree", "--load-config", blob_run, "--json", "--smallest", 60)
    content = json.loads(capsys.readouterr().out)
    assert [n["name"] for n in content["nodes"]] == [None, "red ball", "green ball", "blue ball", "plate"]


def test_sheet_of_levels(blob_run, tmp_path, capsys):
    ag2("tree", "--load-config", blob_run, "--output-dir", tmp_path, "--views", 2, "--levels", 0, 0.5, 1)
    sheet = np.asarray(Image.open(tmp_path / "tree.png"))
    assert sheet.shape[1] > 4 * 320 and sheet.shape[0] > 2 * 240
    assert json.loads((tmp_path / "tree.json").read_text())["frame"] == "run"
    # The levels differ where parts and groups are: their columns are not the same pictures.
    columns = [sheet[40:280, 4 + k * 324 : 324 + k * 324].astype(int) for k in range(4)]
    assert all(np.abs(a - b).mean() > 0.3 for a, b in pairwise(columns))


@pytest.mark.parametrize("options", [("--levels", 1.5), ("--views", 0)])
def test_bad_options(blob_run, capsys, options):
    with pytest.raises(SystemExit) as stop:
        ag2("tree", "--load-config", blob_run, *options)
    assert stop.value.code == 1 and capsys.readouterr().err.startswith("error: --levels takes")


def test_a_run_that_is_none(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ag2("tree", "--load-config", tmp_path)
    assert "no scene there" in capsys.readouterr().err
