"""Methods by name."""

from __future__ import annotations

import importlib

from rmiov2 import config as configuration
from rmiov2.agents.base import Agent, refuse_device, refuse_mismatch
from rmiov2.config import Config
from rmiov2.types import EnvSpec

AGENTS = {
    "rmiov2": "rmiov2.agents.rmiov2:RMIOv2",
    "gawm": "rmiov2.agents.gawm:GAWM",
    "rmio": "rmiov2.agents.rmio:RMIO",
    "mappo": "rmiov2.agents.mappo:MAPPO",
    "qmix": "rmiov2.agents.qmix:QMIX",
    "facmac": "rmiov2.agents.facmac:FACMAC",
    "mamba": "rmiov2.agents.mamba:MAMBA",
    "mag": "rmiov2.agents.mag:MAG",
}


def class_of(agent: configuration.Agent) -> type[Agent]:
    """The class that a section `agent` names; raises UserError for a user's own that is not there or is no method."""
    if isinstance(agent, configuration.Own):
        from rmiov2.agents.own import method_of

        return method_of(agent)
    return agent_class(agent.name)


def agent_class(name: str) -> type[Agent]:
    """The class of a method of AGENTS."""
    module, attribute = AGENTS[name].split(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def make_agent(config: Config, spec: EnvSpec) -> Agent:
    """A new agent for the environment; raises UserError where the two do not fit."""
    chosen, label = class_of(config.agent), config.agent.label
    refuse_mismatch(label, chosen.capabilities, spec)
    refuse_device(label, chosen.capabilities, config.device, config.precision)
    return chosen(config, spec, config.seed)
