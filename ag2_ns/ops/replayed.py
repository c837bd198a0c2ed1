"""What a training step draws, recorded as two CUDA graphs: one that computes, one that takes gradients back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.ops.capture import MemoryPool, capture
from ag2_ns.ops.graphed import MOST, TRIES

PATIENCE = 3
"""Calls of a combination until it is recorded, which takes as long as some ten of them."""

SLACK = 1.2
"""Leaves may get so many times as long, or as short, until memory is given back, which takes as long as ten steps."""


class Replayed:
    """A function of trained leaves to several tensors, and its gradient, each as one launch.

    Leaves are read where they lie, so it is recorded anew whenever one has moved. Their gradients go straight into
    `.grad`: autograd would copy them. What it returns is overwritten by the next call: use it within one step. Off
    CUDA the function is called as it is.

    Args:
        function: takes the leaves, then constants, then options; it must not wait for the device.
        watched: index of a result whose gradient is asked for but that no loss reads: its `grad` (and `absgrad`, where
            the function's gradient sets that) are there after the backward pass.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], watched: int | None = None) -> None:
        self.function, self.watched = function, watched
        self.recorded = False
        """Whether the last call was played from a recording."""
        self._recorded: dict[tuple, _Recording] = {}
        self._calls: dict[tuple, int] = {}
        self._at: tuple = ()
        self._memory: MemoryPool | None = None
        self._count = 0
        self._failed = 0

    def __call__(
        self, leaves: Sequence[Tensor], constants: Sequence[Tensor], *options: Hashable, fixed: Sequence[Tensor] = ()
    ) -> tuple[Tensor, ...]:
        """The function's tensors.

        Args:
            leaves: trained.
            constants: copied for every call.
            options: what else the function needs; each combination is recorded apart.
            fixed: what it reads beside its arguments; where one has moved it is recorded anew.
        """
        self.recorded = False
        if not leaves[0].is_cuda or self._failed >= TRIES or not torch.is_grad_enabled():
            return self.function(*leaves, *constants, *options)
        at = tuple((t.data_ptr(), t.numel()) for t in (*leaves, *fixed))
        if at != self._at:
            self._recorded.clear()
            self._calls.clear()
            self._at = at
            self._give_back(len(leaves[0]))
        recorded = self._recorded.get(options)
        if recorded is None:
            self._calls[options] = self._calls.get(options, 0) + 1
            if self._calls[options] < PATIENCE or len(self._recorded) >= MOST:
                return self.function(*leaves, *constants, *options)
            try:
                self._memory = self._memory or MemoryPool()
                recorded = _Recording(self.function, leaves, constants, options, self.watched, self._memory)
            except RuntimeError:
                self._failed += 1
                self._memory = None
                return self.function(*leaves, *constants, *options)
            self._recorded[options] = recorded
        self.recorded = True
        results = _Replay.apply(recorded, len(leaves), *leaves, *constants)
        if self.watched is not None:
            results[self.watched].grad, results[self.watched].absgrad = recorded.watched
        return results

    def _give_back(self, count: int) -> None:
        """Let memory go that was made for tensors of another length: what is longer never fits in."""
        if max(count, self._count) > SLACK * min(count, self._count):
            if self._memory is not None:
                self._memory = None
                torch.cuda.empty_cache()
            self._count = count


class _Recording:
    """Two graphs, and the tensors that they read and write."""

    def __init__(self, function, leaves, constants, options, watched: int | None, memory: MemoryPool) -> None:
        inputs = [t.detach().requires_grad_() for t in leaves]
        self.constants = [t.detach().clone() for t in constants]

        def compute() -> tuple[Tensor, ...]:
            with torch.enable_grad():
                return function(*inputs, *self.constants, *options)

        def gradients() -> tuple[Tensor | None, ...]:
            trained = [results[k] for k in self.differentiable]
            wanted = inputs if watched is None else [*inputs, results[watched]]
            return torch.autograd.grad(trained, wanted, self.incoming, allow_unused=True)

        # The function has been called as it is by now, so that its kernels are compiled and loaded.
        self.forward, results = capture(compute, memory.stream, memory.handle)
        self.differentiable = [k for k, r in enumerate(results) if r.requires_grad and k != watched]
        self.incoming = [torch.zeros_like(results[k]) for k in self.differentiable]
        self.backward, found = capture(gradients, memory.stream, memory.handle)
        self.results = [r.detach() for r in results]
        self.gradients = [None if g is None else g.detach() for g in found[: len(inputs)]]
        self.watched = None if watched is None else (found[-1].detach(), getattr(results[watched], "absgrad", None))


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recorded: _Recording, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        torch._foreach_copy_(recorded.constants, list(tensors[count:]))
        recorded.forward.replay()
        ctx.recorded, ctx.leaves, ctx.constants = recorded, tensors[:count], len(tensors) - count
        results = tuple(r.detach() for r in recorded.results)
        ctx.mark_non_differentiable(*(r for k, r in enumerate(results) if k not in recorded.differentiable))
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor | None) -> tuple[None, ...]:
        recorded, ctx.recorded = ctx.recorded, None  # the loss, which is kept until the next one, shall not keep it
        places, given = [], []
        for place, k in zip(recorded.incoming, recorded.differentiable):
            if grads[k] is None:
                place.zero_()
            else:
                places.append(place)
                given.append(grads[k])
        torch._foreach_copy_(places, given)
        for leaf, gradient in zip(ctx.leaves, recorded.gradients):
            if leaf.grad is not None and gradient is not None and leaf.grad.data_ptr() == gradient.data_ptr():
                leaf.grad = leaf.grad.clone()  # of a step before, to be added to
        recorded.backward.replay()
        for leaf, gradient in zip(ctx.leaves, recorded.gradients):
            if gradient is not None:
                leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
        return (None,) * (2 + len(ctx.leaves) + ctx.constants)
