import pytest
import torch
from torch import nn

from ag2_ns.core.errors import UserError
from ag2_ns.splat.checkpoint import TensorStore, fit_to, newest_checkpoint, refuse_truncated


class Owner(nn.Module):
    def __init__(self, rows: int, width: int = 2):
        super().__init__()
        self.register_buffer("place", torch.zeros(rows, 3))
        self.weights = nn.ParameterDict({"a": nn.Parameter(torch.zeros(rows, width))})
        self.single = nn.Parameter(torch.zeros(rows))
        self.store = TensorStore()


def test_shapes_follow_the_checkpoint():
    small, large = Owner(2), Owner(7)
    for value in large.state_dict().values():
        value.normal_(generator=torch.Generator().manual_seed(0))
    state = large.state_dict()
    fit_to(small, state, torch.device("cpu"))
    assert isinstance(small.weights["a"], nn.Parameter) and isinstance(small.single, nn.Parameter)
    small.load_state_dict(state)
    for name, value in small.state_dict().items():
        assert torch.equal(value, state[name])


def test_parameters_of_the_same_shape_stay_the_same_object():
    owner = Owner(4)
    before = owner.weights["a"]
    fit_to(owner, Owner(4).state_dict(), torch.device("cpu"))
    assert owner.weights["a"] is before


@pytest.mark.parametrize("value", [torch.zeros(4, 3), torch.zeros(4), torch.zeros(4, 2, 1)])
def test_another_width_or_dimension_is_refused(value):
    with pytest.raises(UserError, match=r"weights\.a.*config\.yml"):
        fit_to(Owner(4), Owner(4).state_dict() | {"weights.a": value}, torch.device("cpu"))


def test_missing_keys_are_named():
    state = Owner(4).state_dict()
    del state["weights.a"]
    with pytest.raises(UserError, match=r"lacks weights\.a"):
        fit_to(Owner(4), state, torch.device("cpu"))


def test_a_store_takes_whatever_the_checkpoint_holds():
    owner, other = Owner(1), Owner(1)
    content = {"tree.parent": torch.arange(3), "language.rows": torch.ones(2, 5).half(), "empty": torch.zeros(0, 4)}
    owner.store.set(content)
    assert len(owner.store) == 3
    other.store.set({"old": torch.zeros(9)})
    other.load_state_dict(owner.state_dict())
    found = other.store.get()
    assert set(found) == set(content)
    for name, value in content.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype
    found["tree.parent"][0] = 5
    assert owner.store.get()["tree.parent"][0] == 0, "a copy"


def test_a_store_is_left_alone_by_a_state_without_it():
    owner = Owner(1)
    owner.store.set({"a": torch.ones(2)})
    owner.load_state_dict({k: v for k, v in owner.state_dict().items() if not k.startswith("store")}, strict=False)
    assert torch.equal(owner.store.get()["a"], torch.ones(2))


def test_the_newest_checkpoint_goes_by_its_step(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None and newest_checkpoint(tmp_path) is None
    for name in ("step-000000900.ckpt", "step-000029999.ckpt", "step-1000000000.ckpt", "step-x.ckpt", "other.ckpt"):
        (tmp_path / name).write_bytes(b"")
    assert newest_checkpoint(tmp_path).name == "step-1000000000.ckpt"


def test_truncated_files_are_refused_by_name(tmp_path):
    path = tmp_path / "step-000000001.ckpt"
    torch.save({"a": torch.zeros(1000)}, path)
    refuse_truncated(path)
    whole = path.read_bytes()
    for content in (whole[:-30], whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=path.name):
            refuse_truncated(path)
    path.unlink()
    with pytest.raises(UserError, match="no such checkpoint"):
        refuse_truncated(path)
