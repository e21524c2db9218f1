"""The registered teams of an environment, and which of them is the champion.

    python -m pipelines.registry register               what the pipeline made last, with its evaluated episodes
    python -m pipelines.registry promote [--version N]  make it champion, if it is better on the same games
    python -m pipelines.registry rollback               back to the champion before
    python -m pipelines.registry show

Ends with 0, 2 for a mistake, 3 for a promotion that is refused. Every decision is a line of state/decisions.jsonl and
tags of its version.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines import environment, paths, promotion, tracking
from pipelines.promotion import Decision
from rmiov2.config import Config, load
from rmiov2.evaluation.modes import own_mode
from rmiov2.program import exit_code
from rmiov2.types import UserError

CHAMPION = "champion"
ROLLED_BACK = "rolled_back"  # the tag of a version that is not to be promoted again unless it is named
REFUSED = 3
REQUIRED = ("rmiov2", "mlflow", "torch", "numpy", "scipy", "pydantic", "safetensors")
MEASURED = ("data/", "models/", "results/", "metrics/", "params.yaml")  # code that changed does not make numbers wrong


@dataclass(frozen=True)
class Measured:
    """What is registered together: the weights, the episodes they were measured by, and their summary."""

    checkpoint: Path = paths.FINETUNED / "checkpoint.safetensors"
    episodes: Path = paths.RESULTS / "episodes.parquet"
    summary: Path = paths.METRICS / "evaluate.json"


def refuse_stale() -> None:
    """Raise UserError if the results on disk are not those of the models and settings on disk, by DVC's word."""
    from dvc.repo import Repo

    with Repo(str(paths.ROOT)) as repo:
        status = repo.status(targets=["evaluate"])
    changed = [entry for change in status.get("evaluate", []) if isinstance(change, dict) for entry in change.values()]
    names = [name for entry in changed if isinstance(entry, dict) for name in entry if name.startswith(MEASURED)]
    if names:
        raise UserError(
            f"{', '.join(sorted(set(names)))}: changed since the evaluation; run `dvc repro evaluate` first"
        )


def register(config: Config, measured: Measured) -> tuple[str, bool]:
    """(version, whether it is new) of a team; the same weights measured by the same episodes are registered once."""
    from rmiov2.files import read_bytes

    digests = {
        name: hashlib.md5(read_bytes(path, f"no {path}; run `make run` first"), usedforsecurity=False).hexdigest()
        for name, path in asdict(measured).items()
    }
    client, model = tracking.open_store(), tracking.name_of(config.env.name)
    with tracking.locked("registry"):
        for version in versions(client, model):
            if all(version.tags.get(name) == digests[name] for name in ("checkpoint", "episodes")):
                return str(version.version), False
        return _add(client, config, measured, digests), True


def _add(client: Any, config: Config, measured: Measured, digests: dict[str, str]) -> str:
    """The version becomes visible last, with all its tags."""
    import mlflow

    summary = json.loads(measured.summary.read_text())
    own = own_mode(summary["auc"])
    low, high = summary["auc_ci95"][own]
    numbers = {"auc": summary["auc"][own], "auc_low": low, "auc_high": high}
    tags = digests | {"protocol": promotion.protocol(config), "agent": config.agent.name, "env": config.env.name}
    tags |= {name: f"{value:.6g}" for name, value in numbers.items()}
    with mlflow.start_run(experiment_id=tracking.experiment_of(client, config.env.name), run_name="register"):
        logged = _log_model(measured)
        mlflow.log_metrics(numbers, model_id=logged.model_id)
    model = tracking.name_of(config.env.name)
    return str(mlflow.register_model(logged.model_uri, model, tags=tags).version)


def _log_model(measured: Measured) -> Any:
    """The team as a pyfunc model, made anew from its file and its checkpoint wherever it is loaded."""
    from importlib.metadata import version

    import mlflow
    import numpy as np

    import rmiov2
    from rmiov2.execution.window import shapes

    agent = rmiov2.load(measured.checkpoint)
    parts = shapes(agent.spec, agent.config.execution.history)
    example = {name: np.zeros((1, *shape), np.float32) for name, shape in parts.items()}
    example["rows"][:] = example["start"][:] = 1
    example["obs"][:, :, -1] = np.nan
    if agent.spec.discrete:
        example["avail"][:] = 1
    return mlflow.pyfunc.log_model(
        name="team",
        python_model=str(Path(__file__).with_name("team_model.py")),
        artifacts={name: str(path) for name, path in asdict(measured).items()},
        signature=_signature(agent.spec, parts),
        input_example=example,
        pip_requirements=[f"{package}=={version(package)}" for package in REQUIRED],
    )


def _signature(spec: Any, parts: dict[str, tuple[int, ...]]) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    act = TensorSpec(np.dtype("int64" if spec.discrete else "float32"), (-1, *parts["act"][1:]), "act")
    obs = TensorSpec(np.dtype("float32"), (-1, *parts["obs"][1:]), "obs")
    inputs: list[Any] = [TensorSpec(np.dtype("float32"), (-1, *shape), name) for name, shape in parts.items()]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema([act, obs]))


def versions(client: Any, model: str) -> list[Any]:
    """Every version, the oldest first."""
    return sorted(client.search_model_versions(f"name='{model}'"), key=lambda version: int(version.version))


def _known(client: Any, model: str) -> list[Any]:
    found = versions(client, model)
    if not found:
        raise UserError(f"no model {model} in {tracking.uri()}; `make register` makes one")
    return found


def champion_of(client: Any, model: str) -> str:
    """The champion's version; empty if there is none."""
    return str(client.get_registered_model(model).aliases.get(CHAMPION, ""))


def promote(client: Any, model: str, version: str, resamples: int) -> Decision | None:
    """Decide on a version, or on the newest if it is empty, and act on it; None if it is the champion already."""
    with tracking.locked("registry"):
        asked, current = chosen(client, model, version), champion_of(client, model)
        number = str(asked.version)
        if number == current:
            return None
        mine = _rows(model, number)
        if current:
            _refuse_other_protocol(asked, client.get_model_version(model, current))
            verdict = promotion.against(mine, _rows(model, current), resamples)
        else:
            verdict = promotion.first(mine, resamples)
        word, champion = ("promoted", number) if verdict.promoted else ("refused", current)
        decision = Decision(promotion.now(), model, word, number, champion, verdict.reason, verdict.numbers)
        _keep(client, decision)
        if verdict.promoted:
            client.set_model_version_tag(model, number, "replaced", current)
            if ROLLED_BACK in asked.tags:
                client.delete_model_version_tag(model, number, ROLLED_BACK)
            client.set_registered_model_alias(model, CHAMPION, number)
        return decision


def chosen(client: Any, model: str, version: str) -> Any:
    """The version that is asked for, or the newest; raises UserError where there is none or it was rolled back."""
    found = {str(entry.version): entry for entry in _known(client, model)}
    if version and version not in found:
        raise UserError(f"{model} has no version {version}; it has {', '.join(found)}")
    one = found[version or list(found)[-1]]
    if not version and ROLLED_BACK in one.tags:
        raise UserError(f"{model} version {one.version} was rolled back; --version {one.version} tries it again")
    return one


def _refuse_other_protocol(candidate: Any, champion: Any) -> None:
    mine, theirs = candidate.tags["protocol"], champion.tags["protocol"]
    if mine != theirs:
        raise UserError(
            f"version {candidate.version} was evaluated by protocol {mine}, champion {champion.version} by {theirs}:"
            " other games; evaluate and register the champion's checkpoint under the same settings"
        )


def _rows(model: str, version: str) -> Any:
    """The episodes that a version was measured by."""
    from mlflow.artifacts import download_artifacts

    from rmiov2.evaluation.sweep import read_rows

    return read_rows(Path(download_artifacts(artifact_uri=f"models:/{model}/{version}/artifacts/episodes.parquet")))


def rollback(client: Any, model: str) -> Decision:
    """Make the champion that the present one replaced the champion again; raises UserError if there is none."""
    with tracking.locked("registry"):
        _known(client, model)
        current = champion_of(client, model)
        before = client.get_model_version(model, current).tags.get("replaced", "") if current else ""
        if not before:
            raise UserError(f"{model} has no champion before {current or 'the first'}; nothing was changed")
        decision = Decision(
            promotion.now(), model, "rolled back", current, before, f"back to version {before}, by command", {}
        )
        _keep(client, decision)
        client.set_model_version_tag(model, current, ROLLED_BACK, "true")
        client.set_registered_model_alias(model, CHAMPION, before)
        return decision


def _keep(client: Any, decision: Decision) -> None:
    """On disk first, then at the version; before it is acted on."""
    promotion.write_down(decision, tracking.home() / "state" / "decisions.jsonl")
    told = {"decision": decision.decision, "decision.reason": decision.reason, "decision.time": decision.time}
    told |= {f"decision.{name}": f"{value:.6g}" for name, value in decision.numbers.items()}
    for name, value in told.items():
        client.set_model_version_tag(decision.model, decision.version, name, value)


def table(client: Any, model: str) -> list[str]:
    """One line a version."""
    lines, known, champion = [], _known(client, model), champion_of(client, model)
    for version in known:
        tags, mark = version.tags, CHAMPION if str(version.version) == champion else ""
        auc = f"AUC {tags['auc']} [{tags['auc_low']}, {tags['auc_high']}]"
        judged = f"{tags.get('decision', 'not decided on')}: {tags.get('decision.reason', '-')}"
        lines.append(f"{version.version:>3} {mark:8} {auc}  protocol {tags['protocol']}  {judged}")
    return lines


def say_register(options: argparse.Namespace, config: Config) -> None:
    """Register what the pipeline made last."""
    refuse_stale()
    version, new = register(config, Measured())
    what = "registered as" if new else "is registered already as"
    print(f"team: {what} {tracking.name_of(config.env.name)} version {version} in {tracking.uri()}")


def say_promote(options: argparse.Namespace, config: Config) -> int:
    """Decide on a version and say how."""
    client, model = tracking.open_store(), _model(options, config)
    decision = promote(client, model, options.version, config.evaluate.bootstrap)
    if decision is None:
        print(f"promote: {model} version {champion_of(client, model)} is the champion already")
        return 0
    print(f"{decision.decision}: {model} version {decision.version}: {decision.reason}")
    print(f"champion: {_champion_line(decision)}")
    return 0 if decision.decision == "promoted" else REFUSED


def say_rollback(options: argparse.Namespace, config: Config) -> None:
    """Go back one champion."""
    decision = rollback(tracking.open_store(), _model(options, config))
    print(f"champion: {_champion_line(decision)}, instead of {decision.version}")


def say_versions(options: argparse.Namespace, config: Config) -> None:
    """One line a version."""
    model = _model(options, config)
    print("\n".join(table(tracking.open_store(), model)))
    print(f"registry: {model} in {tracking.uri()}")


def _champion_line(decision: Decision) -> str:
    return f"{decision.model} version {decision.champion}" if decision.champion else "none yet"


def _model(options: argparse.Namespace, config: Config) -> str:
    return tracking.name_of(options.env or config.env.name)


def main(arguments: list[str] | None = None) -> int:
    """See the module's words for the exit status."""
    environment.prepare()
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.registry", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run in (
        ("register", say_register), ("promote", say_promote), ("rollback", say_rollback), ("show", say_versions),
    ):  # fmt: skip
        command = commands.add_parser(name, help=str(run.__doc__), description=run.__doc__)
        command.set_defaults(run=run)
        if run is not say_register:
            command.add_argument("--env", metavar="NAME", help="suite/map (default: that of params.yaml)")
        if run is say_promote:
            command.add_argument("--version", default="", help="which one (default: the newest)")
    options = parser.parse_args(arguments)

    def work() -> int | None:
        with tracking.one_sentence():
            done: int | None = options.run(options, load(paths.PARAMS))
            return done

    return exit_code("registry", work, "`python -m pipelines.registry show` tells what stands")


if __name__ == "__main__":
    sys.exit(main())
