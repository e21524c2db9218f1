"""agent=own: a method of the user's, written to the contract of base.py, wherever Python finds it."""

from __future__ import annotations

import inspect

from rmiov2.agents.base import Agent, Capabilities
from rmiov2.config import Own, own_settings
from rmiov2.importing import imported
from rmiov2.types import UserError


def method_of(agent: Own) -> type[Agent]:
    """The class that agent.method names.

    Raises UserError for a module or class that is not there, for a class that lacks something of the contract, and for
    settings that its Settings do not have.
    """
    said, example = f"agent.method={agent.method}", "see examples/own_method.py"
    found = imported(said, agent.method)
    if not (inspect.isclass(found) and issubclass(found, Agent)):
        raise UserError(f"{said}: got {found!r}, expected a subclass of rmiov2.agents.base.Agent; {example}")
    if lacking := sorted(found.__abstractmethods__):
        raise UserError(f"{said} lacks {', '.join(lacking)}; {example}")
    if not isinstance(getattr(found, "capabilities", None), Capabilities):
        raise UserError(f"{said} lacks capabilities, which say what it can be given; {example}")
    own_settings(agent, found.Settings)
    return found
