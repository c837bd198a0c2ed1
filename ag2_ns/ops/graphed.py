"""A loss whose launches are recorded once as a CUDA graph and replayed: forty small kernels for the price of one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.ops.capture import capture

MOST = 8
"""Combinations of sizes that are recorded; further ones are computed as usual."""

TRIES = 3
"""Recordings that may fail; then it is left."""


class Graphed:
    """A function of tensors to several numbers, of which the sum is minimised, with its gradient in the same graph.

    Values and gradients are those of `function`; it must not wait for the device nor depend on anything but its
    arguments. Off CUDA, and for tensors of ever new sizes, it is called as it is.

    It should not use cuBLAS (products of matrices, `torch.dot`): torch keeps some 32 MB of workspace for every stream
    that one was recorded on, and later than 2.11 frees it under all graphs of a stream once one of them is gone.

    Args:
        function: takes `trained` tensors that get gradients, then constants; returns a vector of terms.
        trained: number of leading arguments that get gradients.
    """

    def __init__(self, function: Callable[..., Tensor], trained: int) -> None:
        self.function, self.trained = function, trained
        self._recorded: dict[tuple, _Recorded] = {}
        self._failed = 0

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The terms, to be added up and minimised."""
        if tensors[0].device.type != "cuda" or not all(t.requires_grad for t in tensors[: self.trained]):
            return self.function(*tensors).unbind()
        key = tuple((t.shape, t.dtype) for t in tensors)
        recorded = self._recorded.get(key)
        if recorded is None:
            if len(self._recorded) >= MOST or self._failed >= TRIES:
                return self.function(*tensors).unbind()
            try:
                recorded = _Recorded(self.function, self.trained, tensors)
            except RuntimeError:  # a driver that cannot record, or another thread's call that must not happen meanwhile
                self._failed += 1
                return self.function(*tensors).unbind()
            self._recorded[key] = recorded
        return _Replay.apply(recorded, *tensors)


class _Recorded:
    """One graph, and the tensors that it reads and writes."""

    def __init__(self, function: Callable[..., Tensor], trained: int, tensors: tuple[Tensor, ...]) -> None:
        self.inputs = [t.detach().clone() for t in tensors]
        self.places = [t.detach() for t in self.inputs]
        leaves = self.inputs[:trained]
        for leaf in leaves:
            leaf.requires_grad_()

        def both() -> tuple[Tensor, tuple[Tensor, ...]]:
            with torch.enable_grad():
                terms = function(*self.inputs)
                return terms.detach(), torch.autograd.grad(terms.sum(), leaves)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries choose and load their kernels outside of the graph
                both()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph, (self.terms, self.gradients) = capture(both, stream)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recorded: _Recorded, *tensors: Tensor) -> tuple[Tensor, ...]:
        kinds: dict[tuple, tuple[list[Tensor], list[Tensor]]] = {}
        for kept, given in zip(recorded.places, tensors):  # one launch copies what is of one kind
            pair = kinds.setdefault((given.dtype, given.is_contiguous()), ([], []))
            pair[0].append(kept)
            pair[1].append(given)
        for pair in kinds.values():
            torch._foreach_copy_(*pair)
        recorded.graph.replay()
        ctx.gradients, ctx.constants = recorded.gradients, len(tensors) - len(recorded.gradients)
        ctx.set_materialize_grads(False)
        return recorded.terms.clone().unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # The terms are added up and minimised, so the gradient of one is that of all.
        grad = next(g for g in grads if g is not None)
        return None, *torch._foreach_mul(ctx.gradients, grad), *(None,) * ctx.constants
