"""Kernels of a GPU, written in Triton: attention among few agents, and the gates of a GRU, each forward and back.

A product of five rows fills nothing of a GPU, and the copies, sums and softmax around it are kernels each; so are the
slices that a step of a GRU writes. Here whatever stands between two products of many rows is one kernel: it reads each
number once, and keeps what is between in registers.

The numbers are those of networks.FusionLayer.attention and of deferred_gradients.py but for rounding, and float32
in every precision of products.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

# Attention: a warp has the keys and values of one team's head, and goes from one agent that asks to the next.


@triton.jit
def _keys(qkv, team, head, width, AGENTS: tl.constexpr, KEY: tl.constexpr, ROWS: tl.constexpr):
    """Keys and values of all agents (ROWS, KEY), where they lie, and which rows are agents."""
    rows, d = tl.arange(0, ROWS), tl.arange(0, KEY)
    real = rows < AGENTS
    place = (team * AGENTS + rows)[:, None] * 3 * width + head * KEY + d[None, :]
    k = tl.load(qkv + place + width, real[:, None], 0.0)
    v = tl.load(qkv + place + 2 * width, real[:, None], 0.0)
    return k, v, place, real


@triton.jit
def _weights(q, k, real, SCALE: tl.constexpr):
    """What one agent gives of its attention to all (ROWS,), of its query (KEY,) and all keys (ROWS, KEY)."""
    scores = tl.where(real, tl.sum(q[None, :] * k, 1) * SCALE, -float("inf"))
    weights = tl.exp(scores - tl.max(scores, 0))
    return weights / tl.sum(weights, 0)


@triton.jit
def _attend_kernel(
    qkv, out, width, HEADS: tl.constexpr, AGENTS: tl.constexpr, KEY: tl.constexpr, ROWS: tl.constexpr,
    SCALE: tl.constexpr,
):  # fmt: skip
    team, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    k, v, _, real = _keys(qkv, team, head, width, AGENTS, KEY, ROWS)
    column = head * KEY + tl.arange(0, KEY)
    for i in range(AGENTS):
        row = team * AGENTS + i
        weights = _weights(tl.load(qkv + row * 3 * width + column), k, real, SCALE)
        tl.store(out + row * width + column, tl.sum(weights[:, None] * v, 0))


@triton.jit
def _attend_back_kernel(
    qkv, gradient, back, width, HEADS: tl.constexpr, AGENTS: tl.constexpr, KEY: tl.constexpr, ROWS: tl.constexpr,
    SCALE: tl.constexpr,
):  # fmt: skip
    team, head = (tl.program_id(0) // HEADS).to(tl.int64), tl.program_id(0) % HEADS
    k, v, place, real = _keys(qkv, team, head, width, AGENTS, KEY, ROWS)
    column = head * KEY + tl.arange(0, KEY)
    for_k, for_v = tl.zeros((ROWS, KEY), tl.float32), tl.zeros((ROWS, KEY), tl.float32)
    for i in range(AGENTS):
        row = team * AGENTS + i
        q, g = tl.load(qkv + row * 3 * width + column), tl.load(gradient + row * width + column)
        weights = _weights(q, k, real, SCALE)
        of_weights = tl.sum(g[None, :] * v, 1)
        of_scores = weights * (of_weights - tl.sum(weights * of_weights, 0)) * SCALE
        tl.store(back + row * 3 * width + column, tl.sum(of_scores[:, None] * k, 0))
        for_k += of_scores[:, None] * q[None, :]
        for_v += weights[:, None] * g[None, :]
    tl.store(back + place + width, for_k, real[:, None])
    tl.store(back + place + 2 * width, for_v, real[:, None])


def _launch(kernel: Any, qkv: Tensor, *others: Tensor, heads: int) -> None:
    teams, agents, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    kernel[(teams * heads,)](
        qkv, *others, width, HEADS=heads, AGENTS=agents, KEY=width // heads, ROWS=triton.next_power_of_2(agents),
        SCALE=1 / math.sqrt(width // heads), num_warps=1,
    )  # fmt: skip


@torch.library.custom_op("rmiov2::attend", mutates_args=())
def attend(qkv: Tensor, heads: int) -> Tensor:
    """What every agent takes from all, (M, N, width), of q, k and v side by side, (M, N, 3 width).

    width / heads is a power of two, as a tile's sides are; rmiov2.acceleration.fused.attends says whether it is.
    """
    out = qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)
    _launch(_attend_kernel, qkv.contiguous(), out, heads=heads)
    return out


@torch.library.custom_op("rmiov2::attend_back", mutates_args=())
def attend_back(gradient: Tensor, qkv: Tensor, heads: int) -> Tensor:
    """The gradient of qkv, of that of what `attend` returned."""
    back = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    _launch(_attend_back_kernel, qkv.contiguous(), gradient.contiguous(), back, heads=heads)
    return back


@attend.register_fake
def _(qkv: Tensor, heads: int) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@attend_back.register_fake
def _(gradient: Tensor, qkv: Tensor, heads: int) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    qkv, ctx.heads = inputs
    ctx.save_for_backward(qkv)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (qkv,) = ctx.saved_tensors
    return attend_back(gradient, qkv, ctx.heads), None


attend.register_autograd(_differentiate, setup_context=_keep)


# The gates of a GRU: a program has one row.


@triton.jit
def _gates(of_input, of_memory, row, width, COLUMNS: tl.constexpr):
    """Reset, update and new of a row, what new's memory says, where h stands, and which columns are real."""
    d = tl.arange(0, COLUMNS)
    real, place = d < width, row * 3 * width + d
    reset = tl.sigmoid(tl.load(of_input + place, real, 0.0) + tl.load(of_memory + place, real, 0.0))
    place += width
    update = tl.sigmoid(tl.load(of_input + place, real, 0.0) + tl.load(of_memory + place, real, 0.0))
    place += width
    new_h = tl.load(of_memory + place, real, 0.0)
    fresh = libdevice.tanh(tl.load(of_input + place, real, 0.0) + reset * new_h)
    return reset, update, fresh, new_h, row * width + d, real


@triton.jit
def _step_kernel(of_input, of_memory, h, out, width, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    _, update, fresh, _, place, real = _gates(of_input, of_memory, row, width, COLUMNS)
    tl.store(out + place, fresh + update * (tl.load(h + place, real, 0.0) - fresh), real)


@triton.jit
def _step_back_kernel(
    gradient, apart, kept, through, of_input, of_memory, h, for_input, for_memory, width, COLUMNS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    reset, update, fresh, new_h, place, real = _gates(of_input, of_memory, row, width, COLUMNS)
    whole = tl.load(gradient + row * apart + tl.arange(0, COLUMNS), real, 0.0)
    whole += tl.load(kept + place, real, 0.0) + tl.load(through + place, real, 0.0)
    of_new = whole * (1 - update) * (1 - fresh * fresh)
    of_update = whole * (tl.load(h + place, real, 0.0) - fresh) * update * (1 - update)
    of_reset = of_new * new_h * reset * (1 - reset)
    tl.store(kept + place, whole * update, real)
    place += 2 * row * width
    tl.store(for_input + place, of_reset, real)
    tl.store(for_memory + place, of_reset, real)
    tl.store(for_input + place + width, of_update, real)
    tl.store(for_memory + place + width, of_update, real)
    tl.store(for_input + place + 2 * width, of_new, real)
    tl.store(for_memory + place + 2 * width, of_new * reset, real)


def step(of_input: Tensor, of_memory: Tensor, h: Tensor, out: Tensor) -> None:
    """The next h into out (M, D), of both products (M, 3D) and h (M, D), all contiguous."""
    rows, width = h.shape
    _step_kernel[(rows,)](of_input, of_memory, h, out, width, COLUMNS=triton.next_power_of_2(width))


def step_back(
    gradient: Tensor, kept: Tensor, through: Tensor, of_input: Tensor, of_memory: Tensor, h: Tensor, for_input: Tensor,
    for_memory: Tensor,
) -> None:  # fmt: skip
    """What deferred_gradients.step_back says; all are contiguous but gradient, whose rows may lie anywhere."""
    rows, width = h.shape
    gradient = gradient if gradient.stride(1) == 1 else gradient.contiguous()
    _step_back_kernel[(rows,)](
        gradient, gradient.stride(0), kept, through, of_input, of_memory, h, for_input, for_memory, width,
        COLUMNS=triton.next_power_of_2(width),
    )  # fmt: skip
