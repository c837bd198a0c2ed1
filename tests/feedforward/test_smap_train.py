import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.feedforward.smap import SmapConfig
from ag2_ns.feedforward.smap_train import (
    SmapSample,
    SmapTrainConfig,
    load_smap,
    read_sample,
    save_smap,
    train_smap,
    write_sample,
)
from ag2_ns.synthetic import point_streets

CONFIG = SmapConfig(16, 16, 16, 4, voxel=0.8)


def sample(seed):
    street = point_streets.make(seed, width=16, points=400)
    return SmapSample(*map(torch.from_numpy, (street.xyz, street.feature, street.cameras, street.vectors)))


def cosine(model, held):
    with torch.no_grad():
        out = [torch.nn.functional.cosine_similarity(model(s.feature, s.xyz, s.masks), s.target).mean() for s in held]
    return float(torch.stack(out).mean())


def test_training_learns_unseen_streets():
    schedule = SmapTrainConfig(steps=60, batch=2, lr=5e-3)
    held = [sample(s) for s in (50, 51)]
    start = cosine(train_smap([sample(0)], CONFIG, SmapTrainConfig(steps=0)), held)
    end = cosine(train_smap([sample(s) for s in range(6)], CONFIG, schedule), held)
    assert end > 0.85 > start


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    samples = [sample(s) for s in range(3)]

    class Stop(Exception): ...

    def stop(step, loss):
        if step == 5:
            raise Stop

    schedule = SmapTrainConfig(steps=8, batch=1, lr=1e-3, save_every=4)
    whole = train_smap(samples, CONFIG, schedule, folder=tmp_path / "a")
    with pytest.raises(Stop):
        train_smap(samples, CONFIG, schedule, folder=tmp_path / "b", progress=stop)
    again = train_smap(samples, CONFIG, schedule, folder=tmp_path / "b", resume=True)
    for a, b in zip(whole.state_dict().values(), again.state_dict().values()):
        assert torch.allclose(a, b, atol=1e-6)


def test_samples_and_models_on_disk(tmp_path):
    s = sample(1)
    write_sample(tmp_path / "s.npz", s)
    back = read_sample(tmp_path / "s.npz")
    assert torch.equal(back.masks, s.masks) and torch.equal(back.xyz, s.xyz)
    assert torch.allclose(back.feature, s.feature, atol=1e-3)
    model = train_smap([tmp_path / "s.npz"], CONFIG, SmapTrainConfig(steps=1))
    save_smap(tmp_path, model)
    again = load_smap(tmp_path)
    assert again.config == CONFIG
    assert torch.equal(again(s.feature, s.xyz, s.masks), model(s.feature, s.xyz, s.masks))


def test_bad_files_are_one_line(tmp_path):
    (tmp_path / "s.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a sample"):
        read_sample(tmp_path / "s.npz")
    np.savez(
        tmp_path / "t.npz",
        xyz=np.zeros((3, 3)),
        feature=np.zeros((2, 4)),
        masks=np.zeros((1, 1), np.uint8),
        target=np.zeros((1, 4)),
    )
    with pytest.raises(UserError, match="do not belong together"):
        read_sample(tmp_path / "t.npz")
    (tmp_path / "smap.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a model"):
        load_smap(tmp_path)
    with pytest.raises(UserError, match="no such model"):
        load_smap(tmp_path / "none")
    with pytest.raises(UserError, match="no sample"):
        train_smap([], CONFIG)
    with pytest.raises(UserError, match="no checkpoint"):
        train_smap([sample(0)], CONFIG, folder=tmp_path / "x", resume=True)
