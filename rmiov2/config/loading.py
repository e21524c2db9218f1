"""One loader; every mistake is a sentence, and an unknown key is told the nearest one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rmiov2.config.agents import Agent, AgentSection, Own
from rmiov2.config.section import Section
from rmiov2.config.sections import BEFORE, Config
from rmiov2.types import UserError

Kind = TypeVar("Kind", bound=Section)


def load(path: Path) -> Config:
    """Read params.yaml, or the config.json of a checkpoint; raises UserError with one sentence for each mistake."""
    if not path.is_file():
        raise UserError(f"no settings at {path}; compose them with `python -m pipelines.params`")
    try:
        text = path.read_text()
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return parse(values, str(path))


def parse(values: Any, source: str) -> Config:
    """Check the values; raises UserError with one sentence for each mistake."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(_sentence(mistake, source) for mistake in error.errors())) from error


def own_settings(agent: Agent, kind: type[Kind]) -> Kind:
    """agent.settings of a method of the user's as the Settings of its class; raises UserError as parse does."""
    assert isinstance(agent, Own)
    try:
        return kind.model_validate(agent.settings)
    except ValidationError as error:
        raise UserError(
            "\n".join(_own_sentence(mistake, list(kind.model_fields)) for mistake in error.errors())
        ) from error


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an older version wrote, with what held before these keys were there."""
    filled = {
        name: before | values.get(name, {}) if isinstance(before, dict) else values.get(name, before)
        for name, before in BEFORE.items()
    }
    return {**values, **filled}


def held_before(key: str) -> Any:
    """What section.name did before it could be said; None of a setting that was always there."""
    section, _, name = key.partition(".")
    before = BEFORE.get(section)
    return before.get(name) if isinstance(before, dict) else before


def _sentence(mistake: Any, source: str) -> str:
    path = _path(mistake["loc"])
    if mistake["type"] == "union_tag_invalid":
        return f"{source}: {_unknown_agent(**mistake['ctx'])}"
    if mistake["type"] == "extra_forbidden" and path in known_keys():
        return f"{source}: {path} is a setting of {', '.join(_owners(path))} alone; leave it out"
    if mistake["type"] == "extra_forbidden":
        return f"{source}: unknown key {path}; did you mean {_nearest(path)}?"
    if mistake["type"] == "missing":
        return f"{source}: {path} is missing; compose the settings anew with `python -m pipelines.params`"
    if isinstance(mistake["input"], dict) and mistake["type"] == "value_error":
        return f"{source}: {path}: {mistake['msg'].removeprefix('Value error, ')}"
    return f"{source}: {path or 'the whole'} = {mistake['input']!r}: {mistake['msg'].removeprefix('Value error, ')}"


def _own_sentence(mistake: Any, known: list[str]) -> str:
    path = ".".join(["agent.settings", *map(str, mistake["loc"])])
    if mistake["type"] == "extra_forbidden":
        return f"unknown key {path}; the method has {', '.join(known) or 'no settings of its own'}"
    if mistake["type"] == "missing":
        return f"{path} is missing; say {path}=VALUE"
    return f"{path} = {mistake['input']!r}: {mistake['msg'].removeprefix('Value error, ')}"


def _unknown_agent(tag: str, expected_tags: str, **_: Any) -> str:
    names = [name.strip("' ") for name in expected_tags.split(",")]
    nearest = difflib.get_close_matches(tag, names, n=1, cutoff=0.0)[0]
    return f"unknown agent {tag!r}; did you mean {nearest}? There are: {', '.join(names)}"


def _path(loc: tuple[str | int, ...]) -> str:
    """section.name of a mistake; pydantic puts the agent's name between the two."""
    parts = [str(part) for part in loc]
    return ".".join(parts[:1] + parts[2:] if parts[:1] == ["agent"] and len(parts) > 2 else parts)


def ignored_keys(agent: str) -> list[str]:
    """What params.yaml holds for the others, as section.name: the agent does the same whatever it says."""
    (kind,) = (kind for kind in _kinds() if agent in _names_of(kind))
    return [key for key in known_keys(agent) if any(key == name or key.startswith(f"{name}.") for name in kind.ignores)]


def known_keys(agent: str = "") -> list[str]:
    """Every key that params.yaml may hold, as section.name; with an agent's name, those that it then holds."""
    keys: list[str] = []
    for name, field in Config.model_fields.items():
        kinds = _kinds() if name == "agent" else (field.annotation,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
                keys.append(name)
            elif name != "agent" or agent in ("", *_names_of(kind)):
                keys += [f"{name}.{key}" for key in kind.model_fields]
    return list(dict.fromkeys(keys))


def _kinds() -> tuple[type[AgentSection], ...]:
    """The sections that `agent` may be."""
    return get_args(get_args(Agent)[0])


def _owners(path: str) -> list[str]:
    """The agents whose section has agent.name."""
    return [name for kind in _kinds() if path.rpartition(".")[2] in kind.model_fields for name in _names_of(kind)]


def _names_of(kind: type[BaseModel]) -> tuple[str, ...]:
    """The agents whose section it is."""
    return get_args(kind.model_fields["name"].annotation)


def _nearest(path: str) -> str:
    return difflib.get_close_matches(path, known_keys(), n=1, cutoff=0.0)[0]
