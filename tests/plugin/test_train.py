"""`ag2 train`, and what it leaves until it is needed."""

import subprocess
import sys

import pytest
import torch
from tiny_run import ag2

from ag2_ns.plugin.compat import compile_when_called
from ag2_ns.plugin.train import methods


def test_methods_are_those_that_nerfstudio_finds(monkeypatch):
    monkeypatch.setenv("NERFSTUDIO_METHOD_CONFIGS", "mine=ag2_ns.plugin.methods:cos3d,other=elsewhere:config")
    assert {"ag2aussian", "ag2aussian-small", "mine"} <= methods().keys() and "other" not in methods()


@pytest.mark.parametrize("arguments", [(), ("splatfacto", "--data", "x"), ("--data", "x")])
def test_another_method_is_left_to_nerfstudio(arguments, capfd):
    with pytest.raises(SystemExit):
        ag2("train", *arguments)
    said = capfd.readouterr().err
    assert "ag2aussian-small" in said and "ns-train knows the others" in said and "Traceback" not in said


def test_functions_are_compiled_when_they_are_called(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiled.append(options) or f)
    before = torch.compile
    with compile_when_called():

        @torch.compile(dynamic=True)
        def twice(x):
            return 2 * x

        plain = torch.compile(lambda x: -x)
    assert torch.compile is before and not compiled
    assert twice(3) == 6 and twice(4) == 8 and plain(1) == -1 and twice.__name__ == "twice"
    assert compiled == [{"dynamic": True}, {}]


PROGRAM = """
import sys
from ag2_ns.cli.main import main
main(["train", "ag2aussian-small", *sys.argv[1:]])
for name in ("torch._inductor.compile_fx", "nerfstudio.configs.method_configs", "nerfstudio.models.nerfacto"):
    assert name not in sys.modules, name
"""


@pytest.mark.slow
def test_a_run_is_trained_without_the_other_methods(tabletop_noisy, tmp_path):
    options = ["--data", tabletop_noisy[1], "--output-dir", tmp_path, "--vis", "tensorboard"]
    options += ["--max-num-iterations", 3]
    command = [sys.executable, "-c", PROGRAM, *map(str, options), "--pipeline.model.instances", "none", "ag2-data"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (config,) = tmp_path.glob("*/ag2aussian-small/*/config.yml")
    assert (config.parent / "scene.safetensors").is_file()
