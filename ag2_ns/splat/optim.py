"""Keeping Adam's state in step with parameters that change length or identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Int
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter
from torch.optim import Optimizer


class LeanAdam(torch.optim.Adam):
    """Adam for a few large tensors, whose step is little else than its one fused kernel.

    torch's own step takes ten times as long to prepare as to run, which with an optimizer per parameter group is a
    tenth of a training step. Anything unusual (a closure, scaled gradients, a first step) is left to it. Hooks of steps
    are not called. `step_together` takes the steps of several at once.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; see torch's."""
        scaled = any(getattr(self, name, None) is not None for name in ("grad_scale", "found_inf"))
        plain = all(g["fused"] and not (g["amsgrad"] or torch.is_tensor(g["lr"])) for g in self.param_groups)
        begun = all(self.state[p] for g in self.param_groups for p in g["params"] if p.grad is not None)
        if closure is not None or scaled or not plain or not begun:
            loss = super().step(closure)
            _moved(p for g in self.param_groups for p in g["params"])
            return loss
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            states = [self.state[p] for p in params]
            steps = [s["step"] for s in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                params, [p.grad for p in params], [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states],
                [], steps, lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
                weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=group["maximize"],
            )  # fmt: skip
            _moved(params)
        return None

    step.hooked = True  # torch would wrap it for its profiler

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; see torch's."""
        if not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


@torch.no_grad()
def step_together(optimizers: Iterable[Optimizer]) -> None:
    """One step of every optimizer by gradients that are not scaled, on a GPU of all that are alike in one kernel.

    torch's fused kernel gives a block 65,536 numbers, so that a tensor of a million of them keeps 16 of 130
    multiprocessors busy, one tensor after the other.
    """
    alike: dict[tuple, list[tuple]] = {}
    for optimizer in optimizers:
        rows = _rows(optimizer) if isinstance(optimizer, LeanAdam) else None
        if rows is None:
            optimizer.step()
            continue
        for group, row in rows:
            alike.setdefault((row[0].device, group["betas"], group["eps"]), []).append(row)
    for (_, betas, eps), rows in alike.items():
        from ag2_ns.ops.adam_triton import adam

        adam(*zip(*rows), betas, eps)
        _moved(row[0] for row in rows)
        torch._foreach_add_([row[4] for row in rows], 1)


def _moved(parameters: Iterable[Tensor]) -> None:
    """Count one more version of parameters, as fused kernels do not: who keeps what was made of them looks there."""
    increment_version(parameters)


def _rows(optimizer: LeanAdam) -> list[tuple[dict, tuple]] | None:
    """What the kernel needs of every parameter, after its group; None where it does not take one of them."""
    rows = []
    for group in optimizer.param_groups:
        if group["weight_decay"] or group["maximize"] or group["amsgrad"]:
            return None
        for p in group["params"]:
            if (gradient := p.grad) is None:
                continue
            state = optimizer.state.get(p)
            if not (
                state and p.is_cuda and p.dtype == torch.float32 and p.is_contiguous() and gradient.is_contiguous()
            ):
                return None
            rows.append((group, (p, gradient, state["exp_avg"], state["exp_avg_sq"], state["step"], group["lr"])))
    return rows


def resized(values: Tensor, keep: Int[Tensor, " K"], extra: Tensor) -> Tensor:
    """Rows `keep` of `values`, then the rows of `extra`."""
    return torch.cat((values[keep], extra.to(values)))


def replace_parameter(
    optimizer: Optimizer | None, old: Parameter, new: Parameter, keep: Int[Tensor, " K"] | None = None
) -> None:
    """Make `optimizer` train `new` instead of `old`.

    Args:
        optimizer: the optimizer whose only parameter is `old`; None does nothing.
        old: the parameter that was trained so far.
        new: the parameter to train from now on.
        keep: which rows of `old` lead `new`; rows after them start with zero moments. None takes the state unchanged.
    """
    if optimizer is None:
        return
    state = optimizer.state.pop(old, {})
    if keep is not None:
        for name, moment in state.items():
            if torch.is_tensor(moment) and moment.shape == old.shape:
                state[name] = resized(moment, keep, moment.new_zeros((len(new) - len(keep), *moment.shape[1:])))
    optimizer.param_groups[0]["params"] = [new]
    if state:
        optimizer.state[new] = state


def zero_moments(optimizer: Optimizer | None, parameter: Parameter) -> None:
    """Forget the running moments of `parameter`, as after its values were overwritten."""
    if optimizer is None:
        return
    for moment in optimizer.state.get(parameter, {}).values():
        if torch.is_tensor(moment) and moment.shape == parameter.shape:
            moment.zero_()


def rebind(optimizers: dict[str, Optimizer], parameters: dict[str, list[Parameter]]) -> None:
    """Point optimizers at the parameters that a checkpoint load put in place of the ones they were built with.

    nerfstudio builds optimizers before it loads a checkpoint; loading replaces the parameters, so a resumed run would
    move nothing. State that was loaded for the old parameter follows by position.

    Args:
        optimizers: by group name.
        parameters: the model's current parameters, by group name.
    """
    for name, current in parameters.items():
        optimizer = optimizers.get(name)
        if optimizer is None:
            continue
        for old, new in zip(list(optimizer.param_groups[0]["params"]), current):
            if old is not new and len(current) == 1:
                replace_parameter(optimizer, old, new)
