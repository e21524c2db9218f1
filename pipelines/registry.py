"""The registered teams of an environment, and which of them is the champion.

    python -m pipelines.registry register               what the pipeline made last, with its evaluated episodes
    python -m pipelines.registry promote [--version N]  make it champion, if it is better on the same games
    python -m pipelines.registry rollback [--version N] back to the champion before N, which has to be champion
    python -m pipelines.registry show

Ends with 0, 2 for a mistake, 3 for a promotion that is refused. Every decision is a line of state/decisions.jsonl and
tags of its version.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pipelines import environment, paths
from pipelines.models import promotion, tracking
from pipelines.models.promotion import Decision
from pipelines.models.registration import Measured, refuse_stale, register, versions
from rmiov2.config import Config, load
from rmiov2.program import exit_code, parser_of
from rmiov2.types import UserError

CHAMPION = "champion"
ROLLED_BACK = "rolled_back"  # the tag of a version that is not to be promoted again unless it is named
REFUSED = 3


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
            before = client.get_model_version(model, current)
            _refuse_itself(asked, before)
            verdict = promotion.against(mine, _rows(model, _measured_alike(client, asked, before)), resamples)
        else:
            verdict = promotion.first(mine, resamples)
        word, champion = ("promoted", number) if verdict.promoted else ("refused", current)
        decision = Decision(promotion.now(), model, word, number, champion, verdict.reason, verdict.numbers)
        _refuse_moved(client, model, current)
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


def _refuse_itself(candidate: Any, champion: Any) -> None:
    if candidate.tags["checkpoint"] == champion.tags["checkpoint"]:
        raise UserError(
            f"version {candidate.version} is champion {champion.version}, measured anew; name a candidate by --version"
        )


def _measured_alike(client: Any, candidate: Any, champion: Any) -> str:
    """The version of the champion's weights that was measured as the candidate was: the champion, or a later one.

    Raises UserError where there is none.
    """
    mine, theirs = candidate.tags["protocol"], champion.tags["protocol"]
    alike = [
        str(version.version)
        for version in [champion, *versions(client, candidate.name)]
        if version.tags.get("checkpoint") == champion.tags["checkpoint"] and version.tags["protocol"] == mine
    ]
    if not alike:
        made = champion.tags.get("git.commit", "that made it")
        raise UserError(
            f"version {candidate.version} was evaluated by protocol {mine}, champion {champion.version} by {theirs}:"
            f" other games; check out the champion's commit {made}, set `evaluate` as here, `make run` and"
            f" `make register`, then promote --version {candidate.version}"
        )
    return alike[0]


def _refuse_moved(client: Any, model: str, judged: str) -> None:
    """The lock is this clone's; another one may have used the same store meanwhile."""
    if (now := champion_of(client, model)) != judged:
        raise UserError(f"{model}: the champion became {now or 'none'} meanwhile; nothing was changed, decide again")


def _rows(model: str, version: str) -> Any:
    """The episodes that a version was measured by."""
    from mlflow.artifacts import download_artifacts

    from rmiov2.evaluation.sweep import read_rows

    return read_rows(Path(download_artifacts(artifact_uri=f"models:/{model}/{version}/artifacts/episodes.parquet")))


def rollback(client: Any, model: str, version: str = "") -> Decision:
    """Make the champion that the present one replaced the champion again.

    version: the one to be left, so that two who mean the same do not go back twice. Raises UserError if it is not the
    champion, or if there is none before it.
    """
    with tracking.locked("registry"):
        known = {str(entry.version): entry for entry in _known(client, model)}
        current = champion_of(client, model)
        if version and version != current:
            raise UserError(f"{model}: version {version} is not champion, {current or 'none'} is; nothing was changed")
        before = known[current].tags.get("replaced", "") if current else ""
        if not before:
            raise UserError(f"{model} has no champion before {current or 'the first'}; nothing was changed")
        if before not in known:
            raise UserError(
                f"{model}: version {before}, champion before {current}, was deleted; nothing was changed, promote"
                f" another one of {', '.join(known)} by --version"
            )
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
    for name in client.get_model_version(decision.model, decision.version).tags:
        if name.startswith("decision") and name not in told:  # of an earlier decision
            client.delete_model_version_tag(decision.model, decision.version, name)
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
    decision = rollback(tracking.open_store(), _model(options, config), options.version)
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
    parser = parser_of("python -m pipelines.registry", __doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    which: dict[Any, str] = {
        say_promote: "which one (default: the newest)",
        say_rollback: "the champion to be left (default: whichever it is)",
    }
    for name, run in (
        ("register", say_register), ("promote", say_promote), ("rollback", say_rollback), ("show", say_versions),
    ):  # fmt: skip
        command = commands.add_parser(name, help=str(run.__doc__), description=run.__doc__)
        command.set_defaults(run=run)
        if run is not say_register:
            command.add_argument("--env", metavar="NAME", help="suite/map (default: that of params.yaml)")
        if run in which:
            command.add_argument("--version", default="", help=which[run])
    options = parser.parse_args(arguments)

    def work() -> int | None:
        with tracking.one_sentence():
            done: int | None = options.run(options, load(paths.PARAMS))
            return done

    return exit_code("registry", work, "`python -m pipelines.registry show` tells what stands")


if __name__ == "__main__":
    sys.exit(main())
