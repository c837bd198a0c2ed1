import json

import blob_scene
import pytest

from ag2_ns.cli.main import main


@pytest.fixture
def scene(tmp_path):
    return blob_scene.make(tmp_path)


def run(*words):
    main([str(w) for w in words])


@pytest.mark.slow
def test_name_then_ask_and_measure(scene, tmp_path, capsys):
    run("name", "--load-config", scene.path, "--output-dir", tmp_path / "n", "--sheet-views", 2, "--device", "cpu")
    said = capsys.readouterr().out
    assert "blue ball" in said and "ag2 query" in said
    content = json.loads((tmp_path / "n" / "names.json").read_text())
    assert {"blue ball", "plate"} <= set(content["words"])
    assert (tmp_path / "n" / "names.png").is_file()
    run("query", "--load-config", scene.path, "--text", "plates", "--output-dir", tmp_path / "q", "--max-views", 0)
    assert json.loads(capsys.readouterr().out)["found"]


def test_captions_and_their_errors(scene, tmp_path, capsys):
    captions = tmp_path / "c.json"
    captions.write_text(json.dumps({"view_01": "a plate"}))
    options = ("--load-config", scene.path, "--output-dir", tmp_path / "n", "--no-keep", "--device", "cpu")
    run("name", *options, "--captions", captions)
    assert "1 words name" in capsys.readouterr().out
    captions.write_text(json.dumps({"view_01": "тарелка"}))
    run("name", *options, "--captions", captions)
    assert "no word names anything" in capsys.readouterr().out
    for content, said in (("{", "not a JSON"), ('{"x": "a mug"}', "names other pictures")):
        captions.write_text(content)
        with pytest.raises(SystemExit):
            run("name", *options, "--captions", captions)
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ") and said in error and "\n" not in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sheet-views", -1), "give a number from 0"),
        (("--tagger", "files"), "--captions FILE"),
        (("--tagger", "simulated"), "no ground truth"),
        (("--words", "none.txt"), "no readable file of words"),
        (("--captioner", "none"), "no captioning model"),
    ],
)
def test_bad_options(scene, tmp_path, capsys, words, said):
    with pytest.raises(SystemExit):
        run("name", "--load-config", scene.path, "--output-dir", tmp_path / "n", "--device", "cpu", *words)
    assert said in capsys.readouterr().err


def test_evaluating_an_unnamed_scene_says_what_to_do(scene, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(
            "eval",
            "--load-config",
            scene.path,
            "--ground-truth",
            tmp_path,
            "--output-dir",
            tmp_path / "e",
            "--vocabulary",
        )
    assert "ag2 name" in capsys.readouterr().err
