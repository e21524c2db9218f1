"""Optuna: the spaces, a study, one attempt at a trial, and what becomes of the trials of a killed worker."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from pipelines import paths, stage
from pipelines.processes.lifeline import still_lives
from pipelines.tuning import trial as trials
from pipelines.tuning.storage import storage_of
from pipelines.tuning.trial import Record
from rmiov2 import config as settings
from rmiov2.config import PATTERNS, Config
from rmiov2.seeding import derive
from rmiov2.training.finetune import ROUNDS
from rmiov2.types import UserError

Study = optuna.study.Study

ATTEMPTS = 3  # at the same values, when their workers get killed
UNCLAIMED_SECONDS = 60  # a trial without a worker's name was taken a moment ago, or its worker is gone
UNPRUNED_TRIALS, UNPRUNED_ROUNDS = 4, ROUNDS // 4
UNREAD = {"report", "ablate", "stress"}  # sections that no trial reads
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", ExperimentalWarning)


@dataclass(frozen=True)
class Plan:
    """What makes a study the study it is; worker processes are given it."""

    study: str
    space: str
    objectives: tuple[str, ...]
    storage: str

    @property
    def folder(self) -> Path:
        return paths.STATE / "tuning" / self.study


def space_of(name: str, config: Config) -> dict[str, BaseDistribution]:
    """What a space varies, by section.name."""
    if name == "masking":
        updates = config.finetune.updates
        return {
            "finetune.p_mask": FloatDistribution(0.0, 1.0, step=0.005),
            "finetune.vary_p_mask": CategoricalDistribution((True, False)),
            "finetune.pattern": CategoricalDistribution(PATTERNS),
            "finetune.updates": IntDistribution(max(1, updates // 4), 2 * updates, log=True),
        }
    return {
        "reward_trend.mode": CategoricalDistribution(("conserving", "paper", "fixed", "off")),
        "reward_trend.beta": FloatDistribution(0.1, 1000.0, log=True),
        "reward_trend.h_base": IntDistribution(1, 8),
        "reward_trend.h_min": IntDistribution(0, 3),
        "reward_trend.h_max": IntDistribution(3, 10),
        "reward_trend.sigma": FloatDistribution(0.1, 2.0, step=0.05),
    }


def load(study: str, storage: str) -> tuple[Study, Plan, Config]:
    """A study that there is, with the settings that it began with; raises UserError if there is none."""
    if "://" not in storage and not Path(storage).exists():
        raise UserError(f"no study {study}: {storage} does not exist; `python -m pipelines.tuning run` makes one")
    found = storage_of(storage)
    try:
        opened = optuna.load_study(study_name=study, storage=found)
    except KeyError as error:
        names = ", ".join(optuna.get_all_study_names(found)) or "none"
        raise UserError(f"no study {study} in the storage; it has {names}") from error
    identity = opened.user_attrs["identity"]
    plan = Plan(study, identity["space"], tuple(identity["objectives"]), storage)
    return opened, plan, settings.parse(settings.upgraded(identity["settings"]), f"study {study}")


def begin(plan: Plan, config: Config) -> Study:
    """Open the study, or create it with the settings of params.yaml as its first trial.

    Raises UserError if it was begun with other settings, on other data, or in another space.
    """
    if "cost" in plan.objectives and "finetune.updates" not in space_of(plan.space, config):
        raise UserError(f"{plan.space} varies no cost: every trial takes as many updates; use --objectives auc")
    data = stage.fingerprint(trials.BEGINS[plan.space])
    opened = optuna.create_study(
        study_name=plan.study,
        storage=storage_of(plan.storage),
        directions=["maximize" if name == "auc" else "minimize" for name in plan.objectives],
        load_if_exists=True,
    )
    identity = {
        "space": plan.space,
        "objectives": list(plan.objectives),
        "settings": json.loads(config.model_dump_json(exclude=UNREAD)),
        "data": data,
    }
    default, before = _default(plan.space, config), opened.user_attrs.get("identity")
    if before is None:
        opened.set_user_attr("identity", identity | {"settings": config.model_dump(mode="json")})
    else:
        before["settings"] = {name: value for name, value in before["settings"].items() if name not in UNREAD}
        if wrong := [name for name, value in identity.items() if before[name] != value]:
            raise UserError(
                f"study {plan.study} was begun with other {wrong[0]}: its trials would not compare;"
                " go back to those or give another --study NAME"
            )
    # without it nothing can be concluded, so it is tried again even where it failed by itself
    tries = [trial for trial in opened.get_trials(deepcopy=False) if trial.user_attrs.get("default")]
    if all(trial.state == TrialState.FAIL for trial in tries):
        opened.enqueue_trial(default, user_attrs={"default": True, "values": default})
    return opened


def _default(space: str, config: Config) -> dict[str, Any]:
    values = {}
    for key, distribution in space_of(space, config).items():
        values[key] = value = attrgetter(key)(config)
        if isinstance(distribution, FloatDistribution | IntDistribution):
            if not distribution.low <= value <= distribution.high:
                raise UserError(f"{key} = {value} lies outside the space, {distribution.low} to {distribution.high}")
    return values


def queue(study: Study, values: Mapping[str, Any], **attributes: Any) -> None:
    """Let the next free worker try these values, unless that was asked for before."""
    attributes |= {"values": dict(values)}
    there = [other.user_attrs for other in study.get_trials(deepcopy=False)]
    if not any(all(other.get(name) == value for name, value in attributes.items()) for other in there):
        study.enqueue_trial(dict(values), user_attrs=attributes)


def in_hand(study: Study) -> int:
    """Trials that are finished or being worked on."""
    return len(study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING)))


def finished(study: Study) -> int:
    """Trials that ended by themselves."""
    return len(study.get_trials(deepcopy=False, states=FINISHED))


def sharpen(study: Study, config: Config, worker: int) -> None:
    """Set the sampler, with a seed of its own for every worker and every start, and the pruner."""
    seed = derive(config.seed, "tuning", study.study_name, len(study.get_trials(deepcopy=False)), worker)
    study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    study.pruner = optuna.pruners.MedianPruner(UNPRUNED_TRIALS, UNPRUNED_ROUNDS)


def attempt(study: Study, plan: Plan, config: Config) -> None:
    """One trial from asking to telling. Whatever stops it in between leaves it to `reap`, but for a UserError.

    Raises UserError if the trial cannot be run; it is told as failed, and not tried again.
    """
    trial = study.ask(space_of(plan.space, config))
    trial.set_user_attr("worker", _myself())
    folder = plan.folder / str(trial.user_attrs.get("folder", trial.number))
    try:
        changed = trials.with_values(config, trial.params)
        data = study.user_attrs["identity"]["data"]
        trials.train(plan.space, changed, data, folder, _Watch(trial, len(plan.objectives) == 1))
        games = trials.play(changed, folder, trials.VALIDATION)
        score = trials.auc(changed, games)
        if not math.isfinite(score):
            raise UserError(f"an AUC of {score}, expected a finite one")
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        shutil.rmtree(folder)
        return
    except UserError as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        raise UserError(f"trial {trial.number} ({folder}): {error}") from error
    trial.set_user_attr("games", games)
    trial.set_user_attr("auc", score)
    scores = {"auc": score, "cost": float(changed.finetune.updates)}
    study.tell(trial, [scores[name] for name in plan.objectives])
    trials.tidy(folder)


class _Watch:
    """Writes down L_rec after every round and, with one objective, prunes: never the trial that others are held to.

    A trial without L_rec is never pruned.
    """

    def __init__(self, trial: Trial, prunes: bool) -> None:
        self.trial, self.prunes = trial, prunes and not trial.user_attrs.get("default")
        self.l_rec: list[float] = []

    def __call__(self, done: int, l_rec: float | None) -> None:
        if l_rec is None:
            return
        self.l_rec.append(l_rec)
        self.trial.set_user_attr("l_rec", self.l_rec)
        if self.prunes:
            self.trial.report(-l_rec, done)  # Optuna compares in the direction of the AUC: more is better
            if self.trial.should_prune():
                raise optuna.TrialPruned


def _myself() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def reap(study: Study, lost: str = "") -> list[str]:
    """Take up the trials of dead workers of this machine, or of the machine `lost`: they fail and are queued again.

    Returns a sentence for each. Killed in the middle, it does the rest the next time.
    """
    said = []
    for dead in study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
        if not _gone(dead, lost):
            continue
        attempts, folder = dead.user_attrs.get("attempt", 1), dead.user_attrs.get("folder", dead.number)
        again = attempts < ATTEMPTS
        if again:
            values = dead.user_attrs.get("values", dead.params)
            kept = {"default": True} if dead.user_attrs.get("default") else {}
            queue(study, values, retry_of=dead.number, attempt=attempts + 1, folder=folder, **kept)
        try:
            study.tell(dead.number, state=TrialState.FAIL)
        except (ValueError, UpdateFinishedTrialError):  # somebody else was faster
            continue
        fate = "it is tried again" if again else f"after {ATTEMPTS} attempts it is given up"
        said.append(f"trial {dead.number} was left by a killed worker; {fate}")
    return said


def _gone(trial: FrozenTrial, lost: str) -> bool:
    worker = trial.user_attrs.get("worker")
    if worker is None:
        started = trial.datetime_start
        return started is not None and (datetime.now() - started).total_seconds() > UNCLAIMED_SECONDS
    if worker["host"] != socket.gethostname():
        return bool(worker["host"] == lost)
    return not still_lives(worker["pid"], worker["started"])


def records(study: Study, plan: Plan) -> list[Record]:
    """Every trial that was begun, in order."""
    return [_record(trial, plan) for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]


def _record(trial: FrozenTrial, plan: Plan) -> Record:
    attributes, ended = trial.user_attrs, trial.datetime_complete
    return Record(
        number=trial.number,
        state=trial.state.name,
        params=dict(trial.params),
        folder=plan.folder / str(attributes.get("folder", trial.number)),
        auc=attributes.get("auc") if trial.state == TrialState.COMPLETE else None,
        l_rec=list(attributes.get("l_rec", [])),
        games=attributes.get("games", []),
        wall_s=trial.duration.total_seconds() if trial.duration else None,
        default=bool(attributes.get("default")),
        retry_of=attributes.get("retry_of"),
        error=attributes.get("error", ""),
        ended_ms=int(ended.timestamp() * 1000) if ended else 0,
    )
