"""Training and asking a referring field, and evaluating sentences, by command at tiny size."""

import json

import numpy as np
import pytest
from PIL import Image

import ag2_ns
from ag2_ns.cli.main import main

BALLS = {1: "red ball", 2: "green ball", 3: "blue ball", 4: "plate"}
NODES = {1: 1, 2: 4, 3: 5, 4: 6}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of random weights with a few words."""
    pytest.importorskip("transformers")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "ball", "red", "green", "blue", "plate", "that", "is"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def asked(blob_run, tmp_path):
    """Sentences about the balls with the ids of every view."""
    scene = ag2_ns.open(blob_run)
    folder = tmp_path / "set"
    (folder / "ground_truth" / "ids").mkdir(parents=True)
    (folder / "sentences").mkdir()
    for view in scene.views:
        ids = np.zeros((view.view.height, view.view.width), np.uint8)
        for number, node in NODES.items():
            share = scene.mask(view.name, scene.index.selection([node], "", 1.0))
            ids[(share > 0.5).cpu().numpy()] = number
        Image.fromarray(ids).save(folder / "ground_truth" / "ids" / f"{view.key.split('/')[-1]}.png")
    (folder / "ground_truth" / "labels.json").write_text(json.dumps(BALLS))
    rows = []
    for number, name in BALLS.items():
        for split, text in (("train", f"the {name}"), ("test", f"the {name.split()[-1]} that is {name.split()[0]}")):
            text = text if number != 4 else "the plate"
            rows.append({"text": text, "wanted": [number], "view": None, "kind": "attribute", "split": split})
    rows.append({"text": "the yellow ball", "wanted": [], "view": None, "kind": "absent", "split": "test"})
    (folder / "sentences" / "sentences.json").write_text(json.dumps({"sentences": rows}))
    return folder


def test_a_field_is_trained_and_asked(blob_run, asked, bert, tmp_path, capsys):
    train = ["refer-train", "--load-config", str(blob_run), "--sentences", str(asked / "sentences"), "--text-model",
             str(bert), "--steps", "4", "--stages", "2", "--views-per-sentence", "2"]  # fmt: skip
    main(train)
    assert "4 steps" in capsys.readouterr().out
    assert (blob_run.parent / "refer.safetensors").is_file()
    main(["query", "--load-config", str(blob_run), "--sentence", "the red ball", "--by", "field", "--output-dir",
          str(tmp_path / "q"), "--max-views", "1"])  # fmt: skip
    assert json.loads(capsys.readouterr().out)["label"] == "the red ball"
    for masks in ("pseudo", "solver"):
        if masks == "pseudo":  # the capture has no masks
            with pytest.raises(SystemExit):
                main([*train, "--masks", masks])
            assert "error:" in capsys.readouterr().err
        else:
            main([*train, "--masks", masks])


def test_sentences_are_evaluated(blob_run, asked, tmp_path, capsys):
    out = tmp_path / "report"
    main(["eval", "--load-config", str(blob_run), "--ground-truth", str(asked / "ground_truth"), "--output-dir",
          str(out), "--clicks", "1", "--sentences", str(asked / "sentences"), "--sentences-by", "solver",
          "text"])  # fmt: skip
    report = json.loads((out / "report.json").read_text())["sentences"]
    assert report["solver"]["all"]["right"] == 1.0 and report["solver"]["all"]["n_acc"] == 1.0
    assert report["solver"]["by_kind"]["attribute"]["miou"] > 0.9
    assert report["text"]["all"]["sentences"] == 5
    assert "sentences by solver" in capsys.readouterr().out


def test_ref_lerf_is_evaluated(blob_run, tmp_path, capsys):
    from ag2_ns.io.referring import write_ref_lerf

    scene = ag2_ns.open(blob_run)
    view = scene.views[0]
    mask = (scene.mask(view.name, scene.index.selection([5], "", 1.0)) > 0.5).cpu().numpy()
    write_ref_lerf(tmp_path / "ref", [(view.key.split("/")[-1].replace("view", "frame_000"), "ball", ["x"], mask)])
    from ag2_ns.core.errors import UserError
    from ag2_ns.eval.referring_run import evaluate_ref_lerf

    with pytest.raises(UserError, match="no test frame"):
        evaluate_ref_lerf(scene, tmp_path / "ref")


def test_refused_in_one_line(blob_run, asked, tmp_path, capsys):
    for extra, match in ((["--downscale", "0"], "--downscale"), (["--text-model", str(tmp_path)], str(tmp_path))):
        with pytest.raises(SystemExit):
            main(["refer-train", "--load-config", str(blob_run), "--sentences", str(asked / "sentences"), *extra])
        error = capsys.readouterr().err
        assert match in error and "Traceback" not in error
    with pytest.raises(SystemExit):
        main(["refer-train", "--load-config", str(blob_run), "--sentences", str(tmp_path / "none")])
    assert "error:" in capsys.readouterr().err


def test_edits_and_exports_take_sentences(blob_run, tmp_path, capsys):
    main(["export", "--load-config", str(blob_run), "--sentence", "the ball that is blue", "--output-dir",
          str(tmp_path / "piece"), "--format", "splat"])  # fmt: skip
    assert list((tmp_path / "piece").glob("*.ply"))
    main(
        [
            "edit",
            "--load-config",
            str(blob_run),
            "--sentence",
            "the ball closest to the green ball",
            "--recolour",
            "1",
            "0",
            "0",
        ]
    )
    assert "error" not in capsys.readouterr().err
