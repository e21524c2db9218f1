"""Methods by name."""

from __future__ import annotations

import difflib
import importlib

from rmiov2.agents.base import Agent, refuse_mismatch
from rmiov2.config import Config
from rmiov2.types import EnvSpec, UserError

AGENTS = {"rmiov2": "rmiov2.agents.rmiov2:RMIOv2"}


def agent_class(name: str) -> type[Agent]:
    """The class of a method; raises UserError that names the nearest if there is none."""
    if name not in AGENTS:
        nearest = difflib.get_close_matches(name, AGENTS, n=1, cutoff=0.0)[0]
        raise UserError(f"unknown agent {name!r}; did you mean {nearest}? There are: {', '.join(AGENTS)}")
    module, attribute = AGENTS[name].split(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def make_agent(config: Config, spec: EnvSpec) -> Agent:
    """A new agent for the environment; raises UserError where the two do not fit."""
    chosen = agent_class(config.agent.name)
    refuse_mismatch(config.agent.name, chosen.capabilities, spec)
    return chosen(config, spec, config.seed)
