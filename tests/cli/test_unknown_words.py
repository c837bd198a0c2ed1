"""Words that a scene described by colours does not know, on balls."""

import json

import pytest
from blob_run import build_palette
from tiny_run import ag2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return build_palette(tmp_path_factory.mktemp("palette"))


def test_a_text_without_a_known_word_is_refused_with_what_is_known(config, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        ag2("query", "--load-config", config, "--text", "the walrus", "--output-dir", tmp_path / "q")
    said = capsys.readouterr()
    assert stop.value.code == 1 and said.out == "" and not (tmp_path / "q").exists()
    last = said.err.strip().splitlines()[-1]
    assert (
        last.startswith("error: ") and "'the walrus': nothing here is called that; known: red, orange, yellow" in last
    )


def test_words_that_are_ignored_are_named(config, tmp_path, capsys):
    ask = ("query", "--load-config", config, "--output-dir", tmp_path / "q", "--max-views", 1)
    ag2(*ask, "--text", "the bluish walrus")
    said = capsys.readouterr()
    assert json.loads(said.out)["found"]
    assert "'the bluish walrus': not known, so ignored: walrus; known: red" in said.err
    ag2(*ask, "--text", "the blue and the green")
    assert "ignored" not in capsys.readouterr().err
