"""The two building blocks that world model and policy share: a perceptron, and attention over agents."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def mlp(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """`layers` hidden layers of Linear, LayerNorm, SiLU, then a Linear."""
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts += [nn.Linear(inputs if layer == 0 else hidden, hidden), nn.LayerNorm(hidden), nn.SiLU()]
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))


class FusionLayer(nn.Module):
    """One layer of eq. (5): LayerNorm(x + attention(x)), then, if ffn > 0, LayerNorm(x + MLP(x))."""

    def __init__(self, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} fusion heads do not divide the width {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = (
            nn.Sequential(nn.Linear(width, ffn), nn.SiLU(), nn.Linear(ffn, width), nn.LayerNorm(width)) if ffn else None
        )

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (M, heads, N, N), whose rows sum to one, and values (M, heads, N, d_k), of x (M, N, width)."""
        m, n, width = x.shape
        q, k, v = self.qkv(x).view(m, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
        return weights, v

    def forward(self, x: Tensor) -> Tensor:
        weights, v = self.attention(x)
        x = self.norm(x + self.out((weights @ v).transpose(1, 2).reshape(x.shape)))  # eq. (5)
        return x if self.mlp is None else self.mlp[3](x + self.mlp[2](self.mlp[1](self.mlp[0](x))))
