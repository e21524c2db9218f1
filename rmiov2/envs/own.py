"""python/MODULE:CLASS: an environment of the user's, written to the contract of base.py, wherever Python finds it."""

from __future__ import annotations

import inspect
from dataclasses import replace

from rmiov2.envs.base import Env
from rmiov2.importing import imported
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
