import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.plugin import compat


def test_old_checkpoints_with_numpy_scalars_load_without_pickle(tmp_path):
    """nerfstudio's schedulers put numpy numbers into checkpoints, which torch >= 2.6 refuses unless told otherwise."""
    compat.allow_numpy_scalars()
    content = {"lr": np.float64(1e-3), "small": np.float32(0.5), "step": np.int64(7), "weights": torch.ones(2)}
    torch.save(content, tmp_path / "step-000000001.ckpt")
    loaded = torch.load(tmp_path / "step-000000001.ckpt", weights_only=True)
    assert loaded["lr"] == 1e-3 and loaded["small"] == 0.5 and loaded["step"] == 7
    assert torch.equal(loaded["weights"], torch.ones(2))


class Harmful:
    def __reduce__(self):
        return os.system, ("true",)


def test_other_pickles_stay_refused(tmp_path):
    compat.allow_numpy_scalars()
    torch.save({"x": Harmful()}, tmp_path / "bad.ckpt")
    with pytest.raises(Exception, match=r"(?i)weights_only|unsupported"):
        torch.load(tmp_path / "bad.ckpt", weights_only=True)


def test_ffmpeg_comes_from_the_wheel_where_the_system_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert shutil.which("ffmpeg") is None
    compat.provide_ffmpeg()
    found = shutil.which("ffmpeg")
    assert found is not None and found.startswith(str(tmp_path / "cache"))
    assert subprocess.run([found, "-version"], capture_output=True, text=True).stdout.startswith("ffmpeg version")
    before = os.environ["PATH"]
    compat.provide_ffmpeg()
    assert os.environ["PATH"] == before, "found the second time"


def test_a_system_ffmpeg_is_preferred(tmp_path, monkeypatch):
    own = tmp_path / "ffmpeg"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    compat.provide_ffmpeg()
    assert shutil.which("ffmpeg") == str(own) and os.environ["PATH"] == str(tmp_path)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compat.provide_ffmpeg()
    assert shutil.which("ffmpeg") is None


@pytest.fixture
def hook(monkeypatch):
    """Our hook on top of one that records."""
    passed = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: passed.append(args))
    compat.show_user_errors_in_one_line()
    return sys.excepthook, passed


def test_user_errors_are_one_line_and_others_pass_on(hook, capsys):
    shown, passed = hook
    error = UserError("a.ply: broken; export it again")
    shown(UserError, error, None)
    assert capsys.readouterr().err == "error: a.ply: broken; export it again\n" and not passed
    shown(ValueError, ValueError("x"), None)
    assert [kind for kind, *_ in passed] == [ValueError]


def test_the_hook_is_put_up_once(hook):
    shown, _ = hook
    compat.show_user_errors_in_one_line()
    assert sys.excepthook is shown


@pytest.mark.slow
def test_a_process_ends_with_status_one_and_one_line():
    code = "from ag2_ns.core.errors import UserError; from ag2_ns.plugin import compat;"
    code += "compat.show_user_errors_in_one_line();"
    done = subprocess.run([sys.executable, "-c", code + "raise UserError('x: y')"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: x: y\n")


IMPORTED = """
import os, shutil, sys
before = sys.excepthook, os.environ["PATH"]
import ag2_ns.plugin.methods, ag2_ns.plugin.dataparser_spec
print((sys.excepthook, os.environ["PATH"]) == before, os.path.exists(os.environ["XDG_CACHE_HOME"] + "/ag2_ns"))
"""


@pytest.mark.slow
def test_other_methods_commands_are_left_alone(tmp_path):
    """Every ns-* command imports the plugin; what nerfstudio needs is applied when a run of ours is used."""
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, env=env, timeout=300)
    assert done.stdout == "True False\n", done.stderr[-2000:]


def test_what_nerfstudio_needs_is_applied_when_a_run_of_ours_begins(tmp_path, monkeypatch):
    from copy import deepcopy

    from ag2_ns.plugin.methods import ag2aussian_small

    applied = []
    monkeypatch.setattr(compat, "apply", lambda: applied.append(1))
    config = deepcopy(ag2aussian_small.config)
    config.output_dir, config.experiment_name, config.timestamp = tmp_path, "s", "t"
    config.get_checkpoint_dir()
    assert applied
    config.machine.device_type, config.load_dir = "cpu", tmp_path
    with pytest.raises(UserError, match="no checkpoint there"):
        config.check()
    assert len(applied) == 2


def test_nerfstudio_lists_installable_methods_without_reading_sources(monkeypatch):
    from nerfstudio.configs import external_methods

    compat.look_no_sources_up()
    monkeypatch.setattr("inspect.findsource", None)
    configs, descriptions = external_methods.get_external_methods()
    assert "tetra-nerf" in configs and configs.keys() == descriptions.keys()
    with pytest.raises((SystemExit, Exception), match=r"0|EOF|stdin"):  # asked for, one is still offered
        external_methods.ExternalMethodDummyTrainerConfig("x", external_methods.external_methods[0])


@pytest.mark.slow
def test_every_command_of_nerfstudio_pays_little_for_the_methods():
    """`ns-train --help` loads them all: what only a training needs is imported when it starts."""
    code = "import sys, nerfstudio.configs.method_configs as m; assert 'ag2aussian' in m.all_methods; "
    code += "print(sorted({n.partition('.')[0] for n in sys.modules} & set(sys.argv[1:])))"
    late = ["torchmetrics", "transformers", "torch_geometric", "open_clip", "inflect", "laspy", "trimesh"]
    run = subprocess.run([sys.executable, "-c", code, *late], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
