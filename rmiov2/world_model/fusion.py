"""Transformers over the agents of one step, eqs. (2a), (2b), (4)-(6); nothing concatenates the agents' vectors."""

from __future__ import annotations

from torch import Tensor, nn

from rmiov2.acceleration.deferred_gradients import LayerNorm, Linear
from rmiov2.networks import FusionLayer
from rmiov2.world_model.layout import Layout


class Alone(nn.Module):
    """The ablation of a fusion: as deep and wide, but every agent by itself."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(width, ffn or width), nn.SiLU(), Linear(ffn or width, width))
        self.norm = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.mlp(x))  # type: ignore[no-any-return]


def fusion(width: int, layers: int, heads: int, ffn: int, across_agents: bool, layout: Layout) -> nn.Sequential:
    """Layers that map (M, N, width) to the same shape, attending over N if across_agents."""

    def layer() -> nn.Module:
        if across_agents:
            return FusionLayer(width, heads, ffn, layout.activation, layout.dropout)
        return Alone(width, ffn)

    return nn.Sequential(*[layer() for _ in range(layers)])
