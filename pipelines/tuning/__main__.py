"""Tune settings by an Optuna study: find better ones on games that the report never plays, and say whether they are.

    python -m pipelines.tuning run masking --trials 20 --workers 2      goes on where it was stopped
    python -m pipelines.tuning show masking                             the best against the default, and where to look
    python -m pipelines.tuning apply masking                            writes the best into params.yaml

masking varies p_mask, pattern and updates of the masked fine-tuning of models/pretrain; smoothing the reward trend,
which takes a pre-training for each trial.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines import environment, paths
from rmiov2.program import exit_code, parser_of, positive

if TYPE_CHECKING:
    from pipelines.tuning.study import Plan, Study
    from pipelines.tuning.trial import Record
    from rmiov2.config import Config

STORAGE = "RMIOV2_TUNING_STORAGE"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 and one sentence on standard error, or 130 when it was stopped by Ctrl-C."""
    options = parser().parse_args(arguments)
    environment.prepare()
    return exit_code("tuning", lambda: options.run(options), "the same command goes on")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = parser_of("python -m pipelines.tuning", __doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="try settings, or go on trying", description=run_study.__doc__)
    run.set_defaults(run=run_study)
    run.add_argument("space", choices=("masking", "smoothing"), help="what is varied")
    run.add_argument("--study", type=_name, metavar="NAME", help="default: the name of the space")
    run.add_argument("--trials", type=positive, default=20, help="finished ones in all (default: %(default)s)")
    run.add_argument("--workers", type=positive, default=2, help="processes (default: %(default)s)")
    run.add_argument(
        "--objectives", nargs="+", choices=("auc", "cost"), default=["auc"],
        help="auc, or auc cost (masked updates); two objectives are not pruned (default: auc)",
    )  # fmt: skip
    run.add_argument("--lost", default="", metavar="HOST", help="take up the trials of a machine that is gone")
    show = commands.add_parser("show", help="the best against the default", description=show_study.__doc__)
    show.set_defaults(run=show_study)
    apply = commands.add_parser("apply", help="write the best into params.yaml", description=apply_study.__doc__)
    apply.set_defaults(run=apply_study)
    for command in (show, apply):
        command.add_argument("study", type=_name, metavar="STUDY")
    for command in (run, show):
        command.add_argument(
            "--storage", default=os.environ.get(STORAGE) or str(paths.JOURNAL), metavar="WHERE",
            help=f"a journal file, or postgresql://user:password@host/database (default: ${STORAGE} or state/tuning)",
        )  # fmt: skip
    return top


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) or text == "none":
        raise argparse.ArgumentTypeError(f"got {text!r}, expected letters, digits, - and _, and not none")
    return text


def run_study(options: argparse.Namespace) -> None:
    """Try settings until enough trials have finished, then play the best and the default on fresh games."""
    from pipelines.refusals import refuse_unrunnable
    from pipelines.tuning import result, workers
    from pipelines.tuning import study as studies
    from rmiov2.config import load

    objectives = ("auc", "cost") if "cost" in options.objectives else ("auc",)
    plan = studies.Plan(options.study or options.space, options.space, objectives, options.storage)
    chosen = load(paths.PARAMS)
    refuse_unrunnable(chosen)
    workers.run(plan, chosen, options.trials, options.workers, options.lost)
    study, plan, config = studies.load(plan.study, plan.storage)
    _confirm(study, plan, config)
    result.settle(_found(study, plan, config))
    _tell(study, plan, config)


def _confirm(study: Study, plan: Plan, config: Config) -> None:
    """Play the best and the default on games that chose nothing, unless that was done; the study keeps the numbers."""
    from pipelines.tuning import result
    from pipelines.tuning import study as studies

    best, default = result.best_and_default(studies.records(study, plan))
    if best == default or _fresh(study, best, default):
        return
    data = study.user_attrs["identity"]["data"]
    ours, theirs = (result.confirm(plan.space, config, data, record) for record in (best, default))
    numbers = result.compared(config, ours, theirs)
    study.set_user_attr("confirmation", {"trials": [best.number, default.number], "numbers": numbers})


def _fresh(study: Study, best: Record, default: Record) -> dict[str, Any] | None:
    """What came of these two on games that chose nothing; None where they have not played them."""
    done = study.user_attrs.get("confirmation")
    return done["numbers"] if done and done["trials"] == [best.number, default.number] else None


def _found(study: Study, plan: Plan, config: Config) -> dict[str, Any]:
    """All that a study found, JSON-ready; confirmation is None where the default is the best, or was not played yet."""
    from pipelines.tuning import result
    from pipelines.tuning import study as studies

    records = studies.records(study, plan)
    best, default = result.best_and_default(records)
    return {
        "study": plan.study,
        "space": plan.space,
        "objectives": list(plan.objectives),
        "env": config.env.name,
        "agent": config.agent.label,
        "preset": config.preset,
        "seed": config.seed,
        "trials": sum(record.state in ("COMPLETE", "PRUNED") for record in records),
        "best": best.number,
        "default": default.number,
        "values": best.params,
        "validation": result.compared(config, best.games, default.games),
        "confirmation": _fresh(study, best, default),
    }


def _tell(study: Study, plan: Plan, config: Config) -> None:
    from pipelines.tuning import plots, result
    from pipelines.tuning import study as studies

    records, found = studies.records(study, plan), _found(study, plan, config)
    written = [result.write(found, records, config)]
    written += [result.preset_path(plan.study)] if result.better(found) else []
    drawn = plots.draw(study, paths.REPORTS / "tuning" / plan.study)
    if len(plan.objectives) > 1:
        for trial in sorted(study.best_trials, key=lambda trial: trial.values[1]):
            auc, updates = trial.values
            print(f"front: trial {trial.number} AUC {auc:.3f} with {updates:.0f} updates")
    for sentence in result.sentences(found):
        print(sentence)
    if "://" not in plan.storage:
        print(f"page: optuna-dashboard {plan.storage}")
    for picture in drawn:
        print(f"picture: {picture.relative_to(paths.ROOT)}")
    print(f"result: {' and '.join(str(path.relative_to(paths.ROOT)) for path in written)}")


def show_study(options: argparse.Namespace) -> None:
    """Say what a study has found so far, with its pictures, and write tuning/STUDY."""
    from pipelines.tuning import study as studies

    _tell(*studies.load(options.study, options.storage))


def apply_study(options: argparse.Namespace) -> None:
    """Write the settings that a study found into params.yaml, and change nothing else."""
    from pipelines.tuning import result

    for line in result.apply(options.study):
        print(line)
    print(f"settings: {paths.PARAMS.relative_to(paths.ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
