"""The networks of QMIX as one module, so that they are clipped, copied and kept together."""

from __future__ import annotations

from torch import nn

from rmiov2 import config
from rmiov2.agents.off_policy import state_width
from rmiov2.policy.mixing import Mixer
from rmiov2.policy.recurrent import Recurrent
from rmiov2.types import EnvSpec


class FactoredQ(nn.Module):
    """agents: Q_i of every own action; mixer: Q_tot of those taken."""

    def __init__(self, policy: config.Policy, settings: config.QMIX, spec: EnvSpec) -> None:
        super().__init__()
        self.agents = Recurrent(policy, spec)
        self.mixer = Mixer(spec.num_agents, state_width(spec), settings.mixer, settings.hyper, monotone=True)
