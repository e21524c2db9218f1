"""Which tests want the public `smac` package, and why it cannot be had here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def missing() -> str | None:
    """Why StarCraft2Env cannot be imported here, None where it can; imports nothing."""
    spec = importlib.util.find_spec("smac")
    if spec is None or not spec.submodule_search_locations:
        return "the package smac (github.com/oxwhirl/smac) is not installed"
    if not any((Path(place) / "env/starcraft2").is_dir() for place in spec.submodule_search_locations):
        return "the package smac that is installed is another program of that name, not github.com/oxwhirl/smac"
    for name in ("pysc2", "s2clientprotocol"):
        if importlib.util.find_spec(name) is None:
            return f"the package {name}, which smac needs, is not installed"
    return None


NEEDS_SMAC = pytest.mark.skipif(missing() is not None, reason=str(missing()))
