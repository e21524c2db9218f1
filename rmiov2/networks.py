"""What world model and policy share: a perceptron, attention over agents, agents' positions, the noise of a draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rmiov2.acceleration.deferred_gradients import LayerNorm, Linear
from rmiov2.acceleration.fused import attends, fused

Activation = type[nn.SiLU] | type[nn.ReLU] | type[nn.ELU]


def mlp(
    inputs: int, hidden: int, layers: int, outputs: int, activation: Activation = nn.SiLU, norm: bool = True
) -> nn.Sequential:
    """`layers` hidden layers of Linear, LayerNorm if norm, activation, then a Linear."""
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts += [Linear(inputs if layer == 0 else hidden, hidden)]
        parts += [LayerNorm(hidden), activation()] if norm else [activation()]
    return nn.Sequential(*parts, Linear(hidden, outputs))


@fused
def as_gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise of numbers uniform between 0 and 1."""
    return -torch.log(-torch.log(uniform.clamp(1e-7, 1 - 1e-7)))


def sinusoids(agents: int, width: int) -> Tensor:
    """Fixed positions of the agents, (N, width), sine on even columns; Vaswani et al. 2017, section 3.5."""
    rate = 10000.0 ** (-(torch.arange(width) // 2 * 2).double() / width)
    angle = torch.arange(agents).double()[:, None] * rate
    return torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos()).float()


def xavier(module: nn.Module, joined: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
    """Glorot's uniform weights in every matrix; in each pair of `joined` as in one matrix of both inputs."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for left, right in joined:
        bound = math.sqrt(6 / (left.shape[0] + left.shape[1] + right.shape[1]))
        for part in (left, right):
            nn.init.uniform_(part, -bound, bound)


def orthogonal(module: nn.Module) -> None:
    """Orthogonal weights in every matrix."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.orthogonal_(parameter)


class FusionLayer(nn.Module):
    """One layer of eq. (5): LayerNorm(x + attention(x)), then, if ffn > 0, LayerNorm(x + MLP(x)).

    Dropout falls on attention, on both summands and inside the MLP; Vaswani et al. 2017, as torch has it.
    """

    def __init__(
        self, width: int, heads: int, ffn: int, activation: Activation = nn.SiLU, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} fusion heads do not divide the width {width}")
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.norm = LayerNorm(width)
        self.mlp = (
            nn.Sequential(Linear(width, ffn), activation(), Linear(ffn, width), LayerNorm(width)) if ffn else None
        )
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (M, heads, N, N), whose rows sum to one, and values (M, heads, N, d_k), of x (M, N, width)."""
        m, n, width = x.shape
        q, k, v = self.qkv(x).view(m, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        return weights, v

    def mixed(self, x: Tensor) -> Tensor:
        """What every agent takes from all, (M, N, width), before the output's matrix."""
        drops = self.training and isinstance(self.dropout, nn.Dropout)
        if attends(x, self.heads) and not drops:
            from rmiov2.acceleration.kernels import attend  # Triton, which a machine without a GPU need not have

            return attend(self.qkv(x), self.heads)  # type: ignore[no-any-return]
        weights, v = self.attention(x)
        return (self.dropout(weights) @ v).transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + self.dropout(self.out(self.mixed(x))))  # eq. (5)
        if self.mlp is None:
            return x
        inner = self.dropout(self.mlp[1](self.mlp[0](x)))
        return self.mlp[3](x + self.dropout(self.mlp[2](inner)))  # type: ignore[no-any-return]
