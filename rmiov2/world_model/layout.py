"""Where one method builds the networks of M otherwise than another; what a user may set stands in rmiov2/config."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from rmiov2.networks import Activation, mlp


@dataclass(frozen=True)
class Layout:
    """RMIOv2's by default; MAMBA's, github.com/jbr-ai-labs/mamba at 2c97258, networks/dreamer, by `mamba`.

    activation: of encoder, decoder, prior, posterior and fusions; head_activation: of the other predictors · norm:
    LayerNorm in every perceptron · deeper: hidden layers of encoder and decoder beyond `layers` · joint_inputs: what
    enters posterior and action fusion is one activated linear layer of its joint parts, agents have fixed positions
    instead of learned ones, and without observation fusion nothing stands in its place · each: every agent says reward
    and end of a step from (z, h) before and after it, not the team from (h, z) after it · action_head: predict from an
    observation's decoding what the agent did last · dropout: of the fusions while M learns.
    """

    activation: Activation = nn.SiLU
    head_activation: Activation = nn.SiLU
    norm: bool = True
    deeper: int = 0
    joint_inputs: bool = False
    each: bool = False
    action_head: bool = False
    dropout: float = 0.0

    def perceptron(self, inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
        """Of encoder, decoder, prior and posterior."""
        return mlp(inputs, hidden, layers, outputs, self.activation, self.norm)

    def head(self, inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
        """Of the other predictors."""
        return mlp(inputs, hidden, layers, outputs, self.head_activation, self.norm)


def mamba(action_head: bool, dropout: float) -> Layout:
    """MAMBA's layout."""
    return Layout(
        activation=nn.ReLU, head_activation=nn.ELU, norm=False, deeper=1, joint_inputs=True, each=True,
        action_head=action_head, dropout=dropout,
    )  # fmt: skip
