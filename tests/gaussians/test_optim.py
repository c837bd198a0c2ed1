import copy

import torch
from torch.nn import Parameter

from ag2_ns.gaussians.optim import rebind, replace_parameter, zero_moments


def trained(values):
    parameter = Parameter(torch.tensor(values))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.arange(1.0, len(values) + 1)
    optimizer.step()
    return parameter, optimizer


def test_moments_follow_kept_rows_and_new_rows_start_at_zero():
    old, optimizer = trained([1.0, 2.0, 3.0])
    moments = optimizer.state[old]["exp_avg"].clone()
    keep = torch.tensor([2, 0])
    new = Parameter(torch.cat((old.detach()[keep], torch.tensor([9.0, 9.0]))))
    replace_parameter(optimizer, old, new, keep)
    assert optimizer.param_groups[0]["params"][0] is new and old not in optimizer.state
    assert torch.equal(optimizer.state[new]["exp_avg"], torch.cat((moments[keep], torch.zeros(2))))
    before = new.detach().clone()
    new.grad = torch.ones(4)
    optimizer.step()
    assert (new.detach() != before).all()


def test_rebind_makes_a_resumed_optimizer_move_the_loaded_parameter():
    old, optimizer = trained([1.0, 2.0])
    saved = copy.deepcopy(optimizer.state_dict())
    fresh = Parameter(torch.zeros(2))
    resumed = torch.optim.Adam([fresh], lr=0.1)
    loaded = Parameter(old.detach().clone())  # what nerfstudio's load puts in place of `fresh`
    resumed.load_state_dict(saved)
    rebind({"a": resumed}, {"a": [loaded]})
    assert torch.equal(resumed.state[loaded]["exp_avg"], optimizer.state[old]["exp_avg"])
    for p, o in ((old, optimizer), (loaded, resumed)):
        p.grad = torch.tensor([0.5, -0.5])
        o.step()
    assert torch.equal(loaded, old)


def test_zero_moments():
    parameter, optimizer = trained([1.0, 2.0])
    zero_moments(optimizer, parameter)
    assert optimizer.state[parameter]["exp_avg"].abs().sum() == 0
    zero_moments(None, parameter)
