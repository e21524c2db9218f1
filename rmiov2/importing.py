"""What users name by module: their environments and their methods, wherever Python finds them."""

from __future__ import annotations

import importlib
from typing import Any

from rmiov2.types import UserError


def imported(name: str, target: str, default: str = "") -> Any:
    """What MODULE:NAME stands for, NAME being the default where it is left out; raises UserError if it is not there.

    name: what the user said, for the sentence.
    """
    module_name, _, attribute = target.partition(":")
    attribute = attribute or default
    if not attribute or not module_name or module_name.startswith("."):
        raise UserError(f"{name}: got no module or no class, expected MODULE:{default or 'CLASS'}")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: no module {error.name}; install it, or put its folder on PYTHONPATH") from error
    except AttributeError as error:
        if attribute in str(error) and module_name in str(error):
            raise UserError(
                f"{name}: {module_name} has no {attribute}; expected MODULE:{default or 'CLASS'}"
            ) from error
        raise
