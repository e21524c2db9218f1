"""Compose conf/ into params.yaml, the complete and committed truth of a run.

    python -m pipelines.params                              the defaults
    python -m pipelines.params env=smax_2s3z preset=paper   other files of conf/env and conf/preset
    python -m pipelines.params finetune.p_mask=0.25         one value

What is not named falls back to the defaults of conf/config.yaml, never to what params.yaml held before.
"""

from __future__ import annotations

import difflib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipelines import paths
from pipelines.refusals import refuse_impossible
from rmiov2 import config
from rmiov2.files import write_bytes
from rmiov2.program import exit_code, parser_of
from rmiov2.types import UserError

GROUPS = ("env", "agent", "preset", "tuned", "ablation")
OWN_SETTINGS = "agent.settings."  # keys that only a method of the user's knows
PACKAGE = "# @package _global_"  # without it Hydra puts a file's settings where nobody reads them
_composing = threading.Lock()  # hydra composes one configuration at a time in a process
HEADER = "# Written by `python -m pipelines.params`; rmiov2/config says what each key means.\n"


def compose_values(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The complete settings, as params.yaml has them; raises as compose_config."""
    return compose_config(overrides).model_dump(mode="json")


def worded(overrides: Sequence[str]) -> list[str]:
    """What a user asked for, as compose_config takes it; raises UserError for what is said twice.

    Lists of experiments layer their settings, so that there a later one may replace an earlier one.
    """
    said: dict[str, str] = {}
    words = [spelled(override) for override in overrides]
    for word in words:
        key, _, value = word.partition("=")
        if key in said:
            raise UserError(f"{key}: got two, {said[key]} and {value}; {_instead_of(key, {said[key], value})}")
        said[key] = value
    for group, name in (("env", "env.name"), ("agent", "agent.name")):
        if {group, name} <= said.keys() and said[name].replace("/", "_") in choices(group):
            raise UserError(f"{group}={said[group]} and {name}={said[name]} both name one; say one of them")
    return words


def spelled(override: str) -> str:
    """The override with an environment's own name, smax/3m, as that of its file in conf/env, smax_3m, if it has one."""
    key, _, value = override.partition("=")
    file = value.replace("/", "_")
    return f"env={file}" if key == "env" and file in choices(key) else override


def _instead_of(key: str, values: set[str]) -> str:
    """What to say instead of several values of a key."""
    if len(values) == 1:
        return "say it once"
    if key != "ablation" or not values <= set(choices(key)):
        return "say one of them"
    every = [setting for file in values for setting in settings_of(key, file).items()]
    both = dict(every)
    if any(both[name] != value for name, value in every):  # no file can hold both
        return "say one of them"
    found = [file for file in choices(key) if file not in values and settings_of(key, file) == both]
    return f"ablation={found[0]} holds both" if found else "say one of them, or write a file of conf/ablation with both"


def compose_config(overrides: Sequence[str] = ()) -> config.Config:
    """The complete settings, checked; raises UserError for an unknown group, key or value."""
    overrides = [spelled(override) for override in overrides]
    for override in overrides:
        _refuse_unknown(override)
    told = [f"++{override}" if override.startswith(OWN_SETTINGS) else override for override in overrides]
    try:
        with _composing, initialize_config_dir(str(paths.CONF), version_base="1.3"):
            composed = OmegaConf.to_container(compose("config", overrides=told), resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"cannot compose {' '.join(overrides)}: {str(error).splitlines()[0]}") from error
    return config.parse(composed, " ".join(overrides) or "conf/config.yaml")


def choices(group: str) -> list[str]:
    """The files that a group offers."""
    return sorted(path.stem for path in (paths.CONF / group).glob("*.yaml"))


def settings_of(group: str, name: str) -> dict[str, Any]:
    """What a file of a group has, by section.name."""
    return flat(yaml.safe_load((paths.CONF / group / f"{name}.yaml").read_text(encoding="utf-8")))


def _refuse_unknown(override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"got {override!r}, expected key=value, for instance env=smax_3m or finetune.p_mask=0.25")
    if key in GROUPS:
        if key == "env" and ":" in value:
            raise UserError(f"conf/env has no {value!r}, as a game of your own has no file there; say env.name={value}")
        if key == "agent" and ":" in value:
            raise UserError(f"conf/agent has no {value!r}; say agent=own agent.method={value} for a method of your own")
        if value not in choices(key):
            near, known = " or ".join(_nearest(value, choices(key))), ", ".join(choices(key))
            raise UserError(f"conf/{key} has no {value!r}; did you mean {near}? It has {known}")
        if PACKAGE not in (paths.CONF / key / f"{value}.yaml").read_text().splitlines():
            raise UserError(f"conf/{key}/{value}.yaml lacks the line `{PACKAGE}`; put it first")
    elif key not in config.known_keys() and not key.startswith(OWN_SETTINGS):
        near = " or ".join(_of_that_name(key) or _nearest(key, [*GROUPS, *config.known_keys()]))
        raise UserError(f"unknown key {key}; did you mean {near}?")


def _nearest(word: str, known: Sequence[str]) -> list[str]:
    """The known names that end with the word, as smax_2s3z and smac_2s3z do with 2s3z; if none does, the most alike."""
    ending = [name for name in known if name.endswith(f"_{word}")]
    return ending or difflib.get_close_matches(word, known, n=1, cutoff=0.0)


def _of_that_name(key: str) -> list[str]:
    """The keys of any section with the last part of this one as their name: of p_mask, finetune.p_mask and others."""
    return [known for known in config.known_keys() if known.rpartition(".")[2] == key.rpartition(".")[2]]


def refuse_without_effect(overrides: Sequence[str], agent: str) -> None:
    """Raise UserError for the first value, or ablation, of which the agent reads nothing."""
    for override in overrides:
        key, _, value = override.partition("=")
        named = [key] if key not in GROUPS else []
        if key == "ablation":
            named = list(settings_of(key, value))
        if named and set(named) <= set(config.ignored_keys(agent)):
            raise UserError(f"{override} changes nothing: {agent} does not read {', '.join(named)}; leave it out")


def as_text(values: dict[str, Any]) -> str:
    """params.yaml's text."""
    return HEADER + yaml.safe_dump(values, sort_keys=False, width=120)


def changes(before: Path, values: dict[str, Any]) -> list[str]:
    """What differs from the file, one line a key."""
    old, new = flat(_readable(before)), flat(values)
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in {**old, **new} if old.get(key) != new.get(key)]


def _readable(path: Path) -> dict[str, Any]:
    """The settings in a file; nothing where it is not there or so damaged that it has to be written anew."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values by section.name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write params.yaml; 0, or 2 and one sentence on standard error."""
    parser = parser_of("python -m pipelines.params", __doc__)
    parser.epilog = "\n".join(f"{group:9} {', '.join(choices(group))}" for group in GROUPS)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args(arguments)

    def work() -> None:
        overrides = worded(options.overrides)
        composed = compose_config(overrides)
        refuse_without_effect(overrides, composed.agent.name)  # lists for several agents may have such
        refuse_impossible(composed)
        values = composed.model_dump(mode="json")
        for line in changes(paths.PARAMS, values):
            print(line)
        write_bytes(paths.PARAMS, as_text(values).encode())
        print(f"settings: {paths.PARAMS}")

    return exit_code("settings", work, "params.yaml is as it was, or complete")


if __name__ == "__main__":
    sys.exit(main())
