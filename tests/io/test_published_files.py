from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.published_files import (
    load_tensor,
    read_clip_features,
    read_masks_sparse,
    write_clip_features,
    write_masks_sparse,
)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(0, 2**31))
def test_masks_travel_both_ways(tmp_path_factory, count, seed):
    path = tmp_path_factory.mktemp("pt") / "a.pt"
    dense = torch.rand(count, 7, 9, generator=torch.Generator().manual_seed(seed)) < 0.3
    write_masks_sparse(path, MaskSet.from_dense(dense))
    stored = torch.load(path, weights_only=True)
    assert stored.layout == torch.sparse_coo
    assert stored.dtype == torch.bool
    assert torch.equal(stored.to_dense(), dense)
    assert torch.equal(read_masks_sparse(path).dense(), dense)


@pytest.mark.parametrize("kind", ["uncoalesced", "explicit zeros", "dense", "float", "csr-like"])
def test_other_ways_to_write_masks(tmp_path, kind):
    dense = torch.zeros(2, 4, 5, dtype=torch.bool)
    dense[0, 1, 2] = dense[1, 3, 4] = True
    indices = torch.tensor([[1, 0, 1], [3, 1, 3], [4, 2, 4]])
    tensor = {
        "uncoalesced": torch.sparse_coo_tensor(indices, torch.ones(3, dtype=torch.bool), (2, 4, 5)),
        "explicit zeros": torch.sparse_coo_tensor(
            torch.tensor([[0, 0, 1], [0, 1, 3], [0, 2, 4]]), torch.tensor([False, True, True]), (2, 4, 5)
        ),
        "dense": dense,
        "float": dense.float().to_sparse(),
        "csr-like": dense.to(torch.uint8),
    }[kind]
    torch.save(tensor, tmp_path / "a.pt")
    assert torch.equal(read_masks_sparse(tmp_path / "a.pt").dense(), dense)


def test_features_travel_both_ways(tmp_path):
    rows = torch.randn(6, 12)
    write_clip_features(tmp_path / "f.pt", rows[:, ::2])
    assert torch.equal(read_clip_features(tmp_path / "f.pt"), rows[:, ::2].half())
    assert (tmp_path / "f.pt").stat().st_size < 4000


class Sneaky:
    def __reduce__(self):
        return (print, ("executed",))


def test_bad_files(tmp_path, capsys):
    path = tmp_path / "a.pt"
    with pytest.raises(UserError, match="no such file"):
        load_tensor(path)
    path.write_bytes(b"hello")
    with pytest.raises(UserError, match=r"a\.pt: "):
        load_tensor(path)
    torch.save({"masks": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="holds a dict, not a tensor"):
        load_tensor(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(UserError, match=r"expected masks M x H x W, found a tensor of shape \(3,\)"):
        read_masks_sparse(path)
    with pytest.raises(UserError, match="expected features M x D"):
        read_clip_features(path)
    torch.save(torch.zeros(3, 4, dtype=torch.int64), path)
    with pytest.raises(UserError, match="expected features M x D"):
        read_clip_features(path)
    torch.save(Sneaky(), path)
    with pytest.raises(UserError, match="damaged or not a plain tensor file"):
        load_tensor(path)
    path.write_bytes(pickle.dumps(Sneaky()))
    with pytest.raises(UserError):
        load_tensor(path)
    assert "executed" not in capsys.readouterr().out
