import copy

import pytest
import torch
from own_process import run_script
from torch.nn import Parameter

from ag2_ns.splat.optim import LeanAdam, rebind, replace_parameter, step_together, zero_moments


def trained(values):
    parameter = Parameter(torch.tensor(values))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.arange(1.0, len(values) + 1)
    optimizer.step()
    return parameter, optimizer


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True}, {"amsgrad": True}, {"fused": False}])
def test_lean_adam_is_adam(options):
    options = {"lr": 0.1, "eps": 1e-15, "fused": True} | options
    start = torch.randn(50, 3)
    pairs = [(p, kind([p], **options)) for kind in (torch.optim.Adam, LeanAdam) for p in [Parameter(start.clone())]]
    for step in range(6):
        gradient = torch.randn(50, 3) if step != 3 else None
        for parameter, optimizer in pairs:
            optimizer.zero_grad()
            assert parameter.grad is None
            parameter.grad = gradient
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            optimizer.step()
    (one, theirs), (other, ours) = pairs
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert ours.state[other]["step"] == theirs.state[one]["step"] == 5
    again = LeanAdam([Parameter(other.detach().clone())], **options)
    again.load_state_dict(theirs.state_dict())  # checkpoints of before
    for parameter, optimizer in ((other, ours), (again.param_groups[0]["params"][0], again)):
        parameter.grad = torch.ones(50, 3)
        optimizer.step()
    torch.testing.assert_close(other, again.param_groups[0]["params"][0], rtol=0, atol=0)


def test_every_step_is_a_version_of_its_own():
    parameter = Parameter(torch.ones(3))
    optimizer = LeanAdam([parameter], fused=True)
    versions = [parameter._version]
    for step in range(6):
        parameter.grad = torch.ones(3)
        optimizer.step() if step < 3 else step_together([optimizer])
        versions.append(parameter._version)
    assert len(set(versions)) == 7


def test_lean_adam_with_a_closure_and_scaled_gradients():
    parameter = Parameter(torch.ones(3))
    optimizer = LeanAdam([parameter], lr=0.1, fused=True)

    def loss():
        optimizer.zero_grad()
        value = parameter.square().sum()
        value.backward()
        return value

    assert float(optimizer.step(loss)) == 3 and float(optimizer.step(loss)) < 3
    before = parameter.detach().clone()
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)  # as GradScaler leaves them
    optimizer.step()
    assert torch.equal(before, parameter.detach()), "a step with infinite gradients is not taken"
    del optimizer.grad_scale  # as it is after unscale_
    optimizer.step()
    assert torch.equal(before, parameter.detach())


def test_lean_adam_steps_every_group_once():
    (a, b), other = ([Parameter(torch.ones(2)) for _ in range(2)] for _ in range(2))
    ours = LeanAdam([{"params": [p]} for p in (a, b)], lr=0.1, fused=True)
    theirs = torch.optim.Adam([{"params": [p]} for p in other], lr=0.1, fused=True)
    for step in range(3):
        for pair, optimizer in (((a, b), ours), (other, theirs)):
            pair[0].grad, pair[1].grad = torch.ones(2), torch.ones(2) if step == 2 else None
            optimizer.step()
    assert torch.equal(a, other[0]) and torch.equal(b, other[1])


KERNEL = """
import torch
from ag2_ns.ops.adam_triton import adam

g = torch.Generator().manual_seed(0)
sizes, rates, betas = [(37, 3), (1500,), (5, 2)], [0.1, 0.01, 0.5], (0.9, 0.999)
parameters, gradients, firsts = ([torch.randn(*s, generator=g) for s in sizes] for _ in range(3))
seconds = [torch.rand(*s, generator=g) for s in sizes]
for taken in (0.0, 3.0, 20000.0):
    steps = [torch.tensor(taken) for _ in sizes]
    theirs = [[x.clone() for x in part] for part in (parameters, firsts, seconds)]
    for k, rate in enumerate(rates):
        torch._fused_adam_(
            [theirs[0][k]], [gradients[k]], [theirs[1][k]], [theirs[2][k]], [], [steps[k] + 1], lr=rate,
            beta1=betas[0], beta2=betas[1], weight_decay=0.0, eps=1e-15, amsgrad=False, maximize=False,
        )
    adam(parameters, gradients, firsts, seconds, steps, rates, betas, 1e-15)
    for ours, other in zip((parameters, firsts, seconds), theirs):
        for a, b in zip(ours, other):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-7)
    assert all(s == taken for s in steps)
print("equal")
"""


def test_the_kernel_of_many_tensors_is_adam():
    pytest.importorskip("triton")
    done = run_script(KERNEL)
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]


def optimizers_of_all_kinds(device):
    g = torch.Generator().manual_seed(0)
    starts = [torch.randn(size, 3, generator=g).to(device) for size in (50, 3000, 7, 9, 4)]
    kinds = [{}, {"lr": 0.02}, {"betas": (0.8, 0.99)}, {"weight_decay": 0.1}, {"amsgrad": True}]
    fused = [LeanAdam([Parameter(x)], **{"lr": 0.1, "eps": 1e-15, "fused": True} | k) for x, k in zip(starts, kinds)]
    return [*fused, torch.optim.SGD([Parameter(torch.ones(3, device=device))], lr=0.1)]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_steps_taken_together_are_those_taken_one_by_one(device):
    ours, theirs = optimizers_of_all_kinds(device), optimizers_of_all_kinds(device)
    for step in range(4):
        g = torch.Generator().manual_seed(step)
        for k, pair in enumerate(zip(ours, theirs)):
            gradient = (
                None if (step, k) == (2, 1) else torch.randn(pair[0].param_groups[0]["params"][0].shape, generator=g)
            )
            for optimizer in pair:
                optimizer.param_groups[0]["params"][0].grad = None if gradient is None else gradient.to(device)
        step_together(ours)
        for optimizer in theirs:
            optimizer.step()
    for a, b in zip(ours, theirs):
        one, other = (o.param_groups[0]["params"][0] for o in (a, b))
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        for name, moment in b.state[other].items():
            torch.testing.assert_close(a.state[one][name], moment, rtol=1e-5, atol=1e-7)


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
