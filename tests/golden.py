"""What public implementations computed: inputs, weights and outputs in tests/golden, with where they come from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import yaml
from torch import Tensor

from rmiov2 import config

FOLDER = Path(__file__).resolve().parent / "golden"


class Golden(dict[str, Tensor]):
    """The tensors of one case by name, and the settings that the public code ran with."""

    def __init__(self, name: str) -> None:
        with safetensors.safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            super().__init__({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
            self.settings: dict[str, Any] = json.loads(file.metadata()["settings"])

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Those whose names begin with prefix/, without it."""
        return {name[len(prefix) + 1 :]: value for name, value in self.items() if name.startswith(f"{prefix}/")}

    def policy(self, **changes: Any) -> config.Policy:
        """The policy section of params.yaml with changes."""
        values = yaml.safe_load((FOLDER.parent.parent / "params.yaml").read_text())["policy"]
        return config.Policy.model_validate(values | changes)


def renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights, with the longest known beginning of each name replaced."""
    found = {}
    for name, value in weights.items():
        known = max((old for old in names if name == old or name.startswith(f"{old}.")), key=len)
        found[names[known] + name[len(known) :]] = value
    return found
