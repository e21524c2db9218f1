"""python/MODULE:CLASS: an environment of the user's, written to the contract of base.py, wherever Python finds it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rmiov2.envs.base import Env
from rmiov2.types import UserError


def own(map_name: str, num_envs: int, seed: int = 0) -> Env:
    """CLASS(num_envs, seed), which is renamed to what it was asked for as, so that the name finds it again.

    Raises UserError for a module or class that is not there, that cannot be called so, or makes no Env.
    """
    name = f"python/{map_name}"
    make = imported(name, map_name)
    try:
        inspect.signature(make).bind(num_envs, seed)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is called with (num_envs, seed): {error}") from error
    env = make(num_envs, seed)
    if not isinstance(env, Env):
        raise UserError(f"{name}: got {type(env).__name__}, expected an rmiov2.envs.base.Env; see examples/own_env.py")
    env.spec = replace(env.spec, name=name)
    return env


def imported(name: str, target: str, default: str = "") -> Callable[..., Any]:
    """What MODULE:NAME stands for, NAME being the default where it is left out; raises UserError if it is not there."""
    module_name, _, attribute = target.partition(":")
    attribute = attribute or default
    if not attribute or not module_name or module_name.startswith("."):
        raise UserError(f"{name}: got no module or no class, expected MODULE:{default or 'CLASS'}")
    try:
        return getattr(importlib.import_module(module_name), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: no module {error.name}; install it, or put its folder on PYTHONPATH") from error
    except AttributeError as error:
        if attribute in str(error) and module_name in str(error):
            raise UserError(
                f"{name}: {module_name} has no {attribute}; expected MODULE:{default or 'CLASS'}"
            ) from error
        raise
