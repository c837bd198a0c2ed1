from types import SimpleNamespace

import numpy as np
import torch

from ag2_ns.plugin.lifting import read_model_state


def test_a_checkpoint_of_another_method_is_read_though_it_holds_numpy_scalars(tmp_path):
    """splatfacto's configuration is not ours, so nothing of ours has run before its checkpoint is read."""
    folder = tmp_path / "nerfstudio_models"
    folder.mkdir()
    content = {"pipeline": {"_model.means": torch.ones(2, 3), "other": 1}, "schedulers": {"lr": np.float64(1e-3)}}
    torch.save(content, folder / "step-000000009.ckpt")
    config = SimpleNamespace(get_checkpoint_dir=lambda: folder)
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        state = read_model_state(config, tmp_path / "config.yml")
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)
    assert torch.equal(state["means"], torch.ones(2, 3)) and list(state) == ["means"]
