"""A module of a package that would import much else with it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType


@contextmanager
def bare(*packages: str) -> Iterator[None]:
    """Import modules of these packages, outer ones first, without what their own __init__ imports.

    JaxMARL's brings every game that it has: two thirds of the seconds that its SMAX takes, in every process. A package
    that was imported before is used as it is, and one that is imported later is whole and has the same modules, which
    are not its attributes then. Raises ModuleNotFoundError for one that is not installed.
    """
    missing = [name for name in packages if name not in sys.modules]
    try:
        for name in missing:
            sys.modules[name] = _empty(name)
        yield
    finally:
        for name in missing:
            sys.modules.pop(name, None)


def _empty(name: str) -> ModuleType:
    found = find_spec(name)
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = ModuleType(name)
    module.__path__, module.__spec__ = list(found.submodule_search_locations), found
    return module
