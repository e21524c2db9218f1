"""Environments: suite/map by name, each suite imported only when it is chosen."""

from rmiov2.envs.registry import list_envs, make_env

__all__ = ["list_envs", "make_env"]
