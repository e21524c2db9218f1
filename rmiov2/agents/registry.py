"""Methods by name."""

from __future__ import annotations

import importlib

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


def agent_class(name: str) -> type[Agent]:
    """The class of a method that the settings name."""
    module, attribute = AGENTS[name].split(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def make_agent(config: Config, spec: EnvSpec) -> Agent:
    """A new agent for the environment; raises UserError where the two do not fit."""
    chosen = agent_class(config.agent.name)
    refuse_mismatch(config.agent.name, chosen.capabilities, spec)
    refuse_device(config.agent.name, chosen.capabilities, config.device, config.precision)
    return chosen(config, spec, config.seed)
