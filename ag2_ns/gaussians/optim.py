"""Keeping Adam's state in step with parameters that change length or identity."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


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
