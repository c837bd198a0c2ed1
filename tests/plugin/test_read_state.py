from types import SimpleNamespace

import numpy as np
import torch

from ag2_ns.plugin.lifting import read_model_state


def test_learning_rates_that_are_numpy_scalars_are_read(tmp_path):
    # As schedulers of nerfstudio leave them in the checkpoints of splatfacto.
    content = {"pipeline": {"_model.means": torch.ones(2)}, "schedulers": {"means": {"_last_lr": [np.float64(0.1)]}}}
    torch.save(content, tmp_path / "step-000000001.ckpt")
    state = read_model_state(SimpleNamespace(get_checkpoint_dir=lambda: tmp_path), tmp_path)
    assert list(state) == ["means"]
