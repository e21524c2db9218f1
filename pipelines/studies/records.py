"""What a study was made of, written beside it before it runs and kept with it: part, scale, settings and commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.params import choices, compose_values, flat, settings_of
from rmiov2.config import label_of
from rmiov2.types import UserError


def record_in(path: Path) -> dict[str, Any]:
    """A record; nothing where a study was made before there were any."""
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}, expected an object")
    except ValueError as error:
        raise UserError(f"{path} is no record ({error}); restore it, or remove its folder and run it again") from error
    return found


@cache
def processor(device: str) -> str:
    """What torch calculates with on this machine: AVX2, AVX512 and each GPU round otherwise, so train other teams."""
    import torch

    if device == "cpu":
        return str(torch.backends.cpu.get_cpu_capability())
    return torch.cuda.get_device_name(device).replace(" ", "-")


def refuse_unnamed(values: Mapping[str, Any]) -> None:
    """Raise UserError if complete settings take away what a file of conf/ablation does, as their name would not say so.

    Whatever a file of conf/agent has for this method is the whole method.
    """
    name, label, env = values["agent"]["name"], label_of(values["agent"]), values["env"]["name"].replace("/", "_")
    known = [f"env={env}"] if env in choices("env") else []
    known += [f"agent.method={values['agent']['method']}"] if name == "own" else []
    files = [file for file in choices("agent") if file == name or file.startswith(f"{name}_")]
    wholes = [flat(compose_values([*known, f"agent={file}", f"preset={values['preset']}"])) for file in files]
    for key, value in flat(dict(values)).items():
        if key in _ablated() and value not in [whole[key] for whole in wholes]:
            raise UserError(
                f"{key} = {value}, but {label} has {wholes[0][key]}, and this would be kept as {label}; say"
                f" ablation={' or '.join(_ablated()[key])}, under whose name it is kept"
            )


@cache
def _ablated() -> dict[str, list[str]]:
    """The settings that ablations change, and the files that do."""
    found: dict[str, list[str]] = {}
    for file in choices("ablation"):
        for key in settings_of("ablation", file):
            found.setdefault(key, []).append(file)
    return found
