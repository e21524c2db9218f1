"""Layers that an unroll applies at every step, and whose weights' gradients are multiplied out once, after the last.

Autograd has a small product for each weight at each step, and adds the whole matrix up T times. Inside `at_once` a step
leaves what went in and what came back, and one product over the rows of all steps gives the same sum:

    dW = sum_t g_t' x_t = [g_1; ...; g_T]' [x_1; ...; x_T]

Outside of it these are torch's own layers, but for GRU where a GPU learns; their weights have torch's names always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rmiov2.acceleration.fused import fused, has_kernels

Gradients = tuple[Tensor | None, ...]


class Rows:
    """What the steps of one layer leave, for all at once."""

    def __init__(self) -> None:
        self._left: list[tuple[Tensor, ...]] = []

    def leave(self, *rows: Tensor) -> None:
        """Of one step, each (..., width)."""
        self._left.append(tuple(part.flatten(0, -2) for part in rows))

    def all(self) -> list[Tensor]:
        """Of all steps, (rows, width) each; nothing stays."""
        whole = [torch.cat(parts) for parts in zip(*self._left, strict=True)]
        self._left.clear()
        return whole


class Steps:
    """Weight and bias of one layer as the steps of an unroll use them, and the rows that these leave.

    Autograd holds the rows alone: were it to hold this, which holds what autograd made, neither would ever be freed.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, kind: type[_Weights], weight: Tensor, bias: Tensor) -> None:
        self.rows = Rows()
        self.weight, self.bias = kind.apply(self.rows, weight, bias)  # type: ignore[no-untyped-call]


class _Weights(Function):
    """A layer's weight and bias handed to its steps; its backward is called after all of theirs."""

    @staticmethod
    def forward(ctx: Any, rows: Rows, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        ctx.rows = rows
        ctx.save_for_backward(weight, bias)
        ctx.set_materialize_grads(False)  # no step says anything here
        return weight.view_as(weight), bias.view_as(bias)


class _LinearWeights(_Weights):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: None) -> Gradients:
        x, gradient = ctx.rows.all()
        return None, gradient.T @ x, gradient.sum(0)


class _NormWeights(_Weights):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: None) -> Gradients:
        weight, bias = ctx.saved_tensors
        x, mean, deviation, gradient = ctx.rows.all()
        return None, *_norm_backward(gradient, x, mean, deviation, weight, bias, [False, True, True])[1:]


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, rows: Rows, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.rows = rows
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        x, weight = ctx.saved_tensors
        ctx.rows.leave(x, gradient)
        return None, gradient @ weight if ctx.needs_input_grad[1] else None, None, None


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, rows: Rows, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        out, mean, deviation = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        ctx.rows = rows
        ctx.save_for_backward(x, mean, deviation, weight, bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        x, mean, deviation, weight, bias = ctx.saved_tensors
        ctx.rows.leave(x, mean, deviation, gradient)
        back = _norm_backward(gradient, x, mean, deviation, weight, bias, [True, False, False])[0]
        return None, back, None, None, None


def _norm_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, deviation: Tensor, weight: Tensor, bias: Tensor, asked: list[bool]
) -> Gradients:
    return torch.ops.aten.native_layer_norm_backward(  # type: ignore[no-any-return]
        gradient, x, weight.shape, mean, deviation, weight, bias, asked
    )


class _Layer(nn.Module):
    """What begins and ends with `at_once`."""

    steps: Any

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        del self.steps  # not None in its place: what is compiled would be compiled anew


class Linear(_Layer, nn.Linear):
    """torch's, with a bias."""

    steps: Steps | None = None

    def begin(self) -> None:
        self.steps = Steps(_LinearWeights, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.steps is None else _linear(self.steps, x)


class LayerNorm(_Layer, nn.LayerNorm):
    """torch's, over the last dimension."""

    steps: Steps | None = None

    def begin(self) -> None:
        self.steps = Steps(_NormWeights, self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.steps is None:
            return super().forward(x)
        s = self.steps
        return _Norm.apply(s.rows, x, s.weight, s.bias, self.eps)  # type: ignore[no-any-return, no-untyped-call]


class GRUCell(_Layer, nn.GRUCell):
    """torch's."""

    steps: tuple[Steps, Steps] | None = None

    def begin(self) -> None:
        of_input = Steps(_LinearWeights, self.weight_ih, self.bias_ih)
        self.steps = of_input, Steps(_LinearWeights, self.weight_hh, self.bias_hh)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        if self.steps is None:
            return super().forward(x, h)
        of_input, of_memory = self.steps
        return gated(_linear(of_input, x), _linear(of_memory, h), h)


class GRU(nn.GRU):
    """torch's, of one layer, batch first; a GPU learns step by step, as cuDNN's backward pass is slow for few rows."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self.by_steps(x, h) if x.is_cuda and torch.is_grad_enabled() else super().forward(x, h)

    def by_steps(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The memory after every step (B, T, D) and after the last (1, B, D), of x (B, T, I) and h (1, B, D)."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.all_weights[0]
        of_inputs = F.linear(x.transpose(0, 1), weight_ih, bias_ih)
        out = _Sequence.apply(of_inputs, h[0], weight_hh, bias_hh)  # type: ignore[no-untyped-call]
        return out.transpose(0, 1), out[-1:]


class _Sequence(Function):
    """The memory after every step (T, B, D), of of_inputs (T, B, 3D) and h (B, D): a product and a kernel a step."""

    @staticmethod
    def forward(ctx: Any, of_inputs: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        length = len(of_inputs)
        of_memories, out = torch.empty_like(of_inputs), h.new_empty(length + 1, *h.shape)
        out[0] = h
        for t in range(length):
            torch.addmm(bias, out[t], weight.T, out=of_memories[t])
            step(of_inputs[t], of_memories[t], out[t], out[t + 1])
        ctx.save_for_backward(of_inputs, of_memories, out, weight)
        return out[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        of_inputs, of_memories, out, weight = ctx.saved_tensors
        for_inputs, for_memories = torch.empty_like(of_inputs), torch.empty_like(of_memories)
        kept, through = torch.zeros_like(out[0]), torch.zeros_like(out[0])
        for t in reversed(range(len(of_inputs))):
            step_back(
                gradient[t], kept, through, of_inputs[t], of_memories[t], out[t], for_inputs[t], for_memories[t]
            )  # fmt: skip
            through = for_memories[t] @ weight
        rows = for_memories.flatten(0, 1)
        return for_inputs, kept + through, rows.T @ out[:-1].flatten(0, 1), rows.sum(0)


def step(of_input: Tensor, of_memory: Tensor, h: Tensor, out: Tensor) -> None:
    """The next h into out (M, D), of both products (M, 3D) and h (M, D)."""
    if has_kernels(h):
        from rmiov2.acceleration import kernels

        kernels.step(of_input, of_memory, h, out)
    else:
        out.copy_(gated(of_input, of_memory, h))


def step_back(
    gradient: Tensor, kept: Tensor, through: Tensor, of_input: Tensor, of_memory: Tensor, h: Tensor, for_input: Tensor,
    for_memory: Tensor,
) -> None:  # fmt: skip
    """Gradients of both products into for_input and for_memory (M, 3D), and into kept (M, D) that of h beside its own.

    The gradient of the next h is the sum of three: of others, of kept and of through.
    """
    if has_kernels(h):
        from rmiov2.acceleration import kernels

        kernels.step_back(gradient, kept, through, of_input, of_memory, h, for_input, for_memory)
        return
    (reset, update, new), (reset_h, update_h, new_h) = of_input.chunk(3, -1), of_memory.chunk(3, -1)
    reset, update = torch.sigmoid(reset + reset_h), torch.sigmoid(update + update_h)
    fresh, whole = torch.tanh(new + reset * new_h), gradient + kept + through
    of_new = whole * (1 - update) * (1 - fresh**2)
    of_update = whole * (h - fresh) * update * (1 - update)
    of_reset = of_new * new_h * reset * (1 - reset)
    torch.cat([of_reset, of_update, of_new], -1, out=for_input)
    torch.cat([of_reset, of_update, of_new * reset], -1, out=for_memory)
    torch.mul(whole, update, out=kept)


def _linear(steps: Steps, x: Tensor) -> Tensor:
    return _Linear.apply(steps.rows, x, steps.weight, steps.bias)  # type: ignore[no-any-return, no-untyped-call]


@fused
def gated(of_input: Tensor, of_memory: Tensor, h: Tensor) -> Tensor:
    """The next h (M, D) of both products (M, 3D), in torch's order: reset, update, new."""
    (reset, update, new), (reset_h, update_h, new_h) = of_input.chunk(3, -1), of_memory.chunk(3, -1)
    fresh = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
    return fresh + torch.sigmoid(update + update_h) * (h - fresh)


@contextmanager
def at_once(module: nn.Module) -> Iterator[None]:
    """The weights of the module's layers learn from all calls inside at once; one backward pass may follow."""
    layers = [part for part in module.modules() if isinstance(part, _Layer)]
    for layer in layers:
        layer.begin()
    try:
        yield
    finally:
        for layer in layers:
            layer.end()
