"""Every kind of damage is named by its own expectation, and nothing is said of good data."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pandas as pd
import pytest
from project import Project
from storage_cases import DISCRETE, named

from pipelines import paths
from pipelines.gates import suites
from pipelines.gates.episode_chains import Piece, chain_facts, chains_of, episodes_begun
from pipelines.gates.guard import guard
from pipelines.gates.shard_facts import piece_facts
from pipelines.params import compose_values
from rmiov2.config import Config, parse
from rmiov2.envs.registry import make_env
from rmiov2.evaluation import sweep
from rmiov2.evaluation.modes import modes_played
from rmiov2.replay import shards
from rmiov2.replay.buffer import Replay
from rmiov2.training.warmup import warmup
from rmiov2.types import UserError

# Episodes of 12 steps; in "pieces" they are cut after every 5, so that a sweep is 4 + 4 + 4 trajectories.
KINDS = {
    "lights": ["env=toy_lights"],
    "dials": ["env=toy_dials"],
    "pieces": ["env=toy_lights", "pretrain.segment=5", "collect.warmup_steps=100"],
}


@cache
def settings(kind: str, *overrides: str) -> Config:
    return parse(compose_values(["preset=toy", *KINDS[kind], *overrides]), kind)


@pytest.fixture(scope="session")
def games(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind, as far as its first buffer."""
    made = {}
    for kind in KINDS:
        made[kind] = tmp_path_factory.mktemp(kind)
        metrics = warmup(settings(kind), made[kind] / "data/collect", lambda *_: None)
        (made[kind] / "metrics").mkdir()
        (made[kind] / "metrics/collect.json").write_text(json.dumps(metrics))
    return made


@pytest.fixture
def run_of(games: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of the run of a kind, in which the pipeline's paths lie now."""

    def copy(kind: str) -> Path:
        root = tmp_path / "run"
        shutil.copytree(games[kind], root)
        for name in ("METRICS", "GATES", "RESULTS", "PASSED", "DATA_DOCS", "COLLECTED", "REPLAY"):
            monkeypatch.setattr(paths, name, root / getattr(paths, name).relative_to(paths.ROOT))
        monkeypatch.setattr(paths, "ROOT", root)
        return root

    return copy


def broken(gate: str, config: Config) -> dict[str, str]:
    """Expectation -> its sentence, of a gate that must not let the data pass."""
    with pytest.raises(UserError) as refusal:
        guard(gate, config)
    assert not any((folder / f"{gate}.json").exists() for folder in (paths.GATES, paths.PASSED))
    assert (paths.DATA_DOCS / gate / "index.html").is_file()
    _, *sentences = str(refusal.value).splitlines()
    return {sentence.split(" ", 1)[0]: sentence for sentence in sentences}


def receipt(gate: str, config: Config) -> dict[str, Any]:
    return json.loads(guard(gate, config).read_text())


def test_metrics_that_are_no_json_are_refused_in_one_sentence(run_of: Any) -> None:
    root = run_of("lights")
    (root / "metrics/collect.json").write_text("{")
    with pytest.raises(UserError, match=r"collect\.json is not JSON .*`dvc repro -f -s collect`"):
        guard("collect", settings("lights"))


# Shards.


@pytest.mark.parametrize("kind", KINDS)
def test_good_games_pass_and_the_same_again_gives_the_same_receipt(kind: str, run_of: Any) -> None:
    run_of(kind)
    first = guard("collect", settings(kind)).read_bytes()
    said = json.loads(first)
    assert said["met"] == said["expectations"] > 20 and said["warnings"] == []
    assert {entry["rows"] for entry in said["checked"] if entry["table"] == "trajectories"} != {0}
    assert guard("collect", settings(kind)).read_bytes() == first
    assert not re.search(rb"20\d\d-|/tmp|/home", first)


@pytest.mark.parametrize("harm", damage.SHARDS, ids=lambda harm: harm.name)
def test_damage_to_a_buffer_is_named(harm: damage.Damage, run_of: Any) -> None:
    root = run_of(harm.kind)
    config = settings(harm.kind)
    for folder in (paths.GATES, paths.PASSED):
        folder.mkdir(parents=True)
        (folder / "collect.json").write_text("{}")  # of a run before
    harm.do(root / "data/collect")
    found = broken("collect", config)
    assert set(found) == harm.breaks
    assert any(harm.where in sentence for sentence in found.values())


def test_what_may_be_right_is_warned_of_and_passes(run_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Trajectory 1 equals trajectory 0, and the last game is cut a step before time would have ended it."""

    def change(held: dict[str, np.ndarray]) -> None:
        for name in ("obs", "state"):
            held[name][13:26] = held[name][:13]
        for name in ("act", "rew", "con"):
            held[name][12:24] = held[name][:12]
        held["lengths"][-1] -= 1
        for name in ("obs", "state", "act", "rew", "con"):
            held[name] = held[name][:-1]

    root = run_of("dials")
    damage.arrays(change)(root / "data/collect")
    metrics = json.loads((root / "metrics/collect.json").read_text())
    (root / "metrics/collect.json").write_text(json.dumps(metrics | {"env_steps": metrics["env_steps"] - 1}))
    said = receipt("collect", settings("dials"))
    assert said["warnings"] == ["open_pieces_go_on", "no_trajectory_is_doubled"]
    assert said["met"] == said["expectations"] - 2
    err = capsys.readouterr().err
    assert "open_pieces_go_on" in err and "trajectory 19" in err and "trajectory 1 has doubled" in err


def test_a_sensor_that_never_changes_is_warned_of(run_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Agent 1 sees one thing throughout, agent 0 another thing in the very last row."""

    def change(held: dict[str, np.ndarray]) -> None:
        held["obs"][:, 1] = held["obs"][0, 1]
        held["obs"][:, 0] = held["obs"][0, 0]
        held["obs"][-1, 0, 0] += 1

    root = run_of("dials")
    damage.arrays(change)(root / "data/collect")
    assert receipt("collect", settings("dials"))["warnings"] == ["observations_change"]
    assert "agent 1 has stuck 1" in (err := capsys.readouterr().err) and "agent 0" not in err


def test_every_expectation_of_a_buffer_is_broken_by_some_damage() -> None:
    specs = [make_env(name, 1).spec for name in ("toy/lights", "toy/dials")]
    rules = [*suites.folder_rules((1, 1), (1, 1)), *suites.shard_rules()]
    rules += [rule for spec in specs for rule in suites.trajectory_rules(spec, 1, 1)]
    names = {rule.name for rule in rules if not rule.warns} - {"availability_is_within_widths"}  # tested below
    assert names == set().union(*(harm.breaks for harm in damage.SHARDS))


def test_an_action_beyond_the_width_of_its_agent_is_counted() -> None:
    spec = dataclasses.replace(DISCRETE, act_widths=(4, 2))
    game = named(spec, 0, 5)
    arrays = {name: getattr(game, name) for name in ("obs", "state", "act", "rew", "con", "avail")}
    facts = piece_facts(Piece("shard", 0, arrays, True, False), spec)
    assert facts["avail_beyond_width"] == 6  # action 2 of agent 1, in every row; action 3 is never available
    assert (facts["act_out_of_range"], facts["act_unavailable"]) == (2, 1)  # agent 1 took 2 and 3, agent 0 took 3


def test_a_piece_that_lost_its_beginning_is_forgiven_only_where_beginnings_were_forgotten() -> None:
    """Six episodes of 2 + 2 steps in sweeps of two; the replay has forgotten the first piece."""

    def piece(episode: int, row: int) -> Piece:
        rows, con = np.full((3, 1), episode, np.float32), np.ones(2, np.float32)
        rows[:, 0] += np.arange(row, row + 3) / 10
        con[-1] = row == 0
        arrays = {"obs": rows, "state": rows, "act": rows[:2], "rew": con, "con": con}
        return Piece("shard", 0, arrays, row == 0, False)

    pieces = [piece(episode, row) for sweep in (0, 2, 4) for row in (0, 2) for episode in (sweep, sweep + 1)][1:]

    def orphans(forgetful: bool) -> list[int]:
        facts = chain_facts(pieces, chains_of(pieces), 4, forgetful)
        return [index for index, fact in enumerate(facts) if fact["orphaned"]]

    assert orphans(False) == [1] and orphans(True) == []
    assert episodes_begun(pieces, chains_of(pieces), False) == 5
    assert episodes_begun(pieces, chains_of(pieces), True) == 4  # of the two sweeps that are whole
    del pieces[3]  # the beginning of the second sweep's first episode
    assert orphans(True) == [4]


def fill_replay(root: Path, config: Config) -> int:
    """data/replay as pre-training leaves it, with capacity as set; the steps that went through it."""
    spec = shards.spec_of(root / "data/collect")
    replay, steps = Replay(spec, config.collect.capacity), 0
    for game in shards.read(root / "data/collect", spec):
        replay.add(game, game.rew)
        steps += len(game)
    shards.replace(root / "data/replay", replay.trajectories(replay.episodes), spec)
    (root / "metrics/pretrain.json").write_text(json.dumps({"env_steps": steps}))
    return steps


@pytest.mark.parametrize("capacity", [5000, 90, 41])
def test_a_replay_passes_whole_or_with_its_oldest_pieces_forgotten(capacity: int, run_of: Any) -> None:
    root, config = run_of("pieces"), settings("pieces", f"collect.capacity={capacity}")
    steps = fill_replay(root, config)
    assert steps == 144
    said = receipt("replay", config)
    assert said["warnings"] == []
    (rows,) = {entry["rows"] for entry in said["checked"] if entry["table"] == "trajectories"}
    assert (rows == 36) == (capacity == 5000)


def test_a_replay_larger_than_its_capacity_is_named(run_of: Any) -> None:
    root = run_of("pieces")
    fill_replay(root, settings("pieces"))
    config = settings("pieces", "collect.capacity=90")
    assert {"no_step_is_lost_or_added"} == set(broken("replay", config))


# Evaluated episodes.


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    """A whole evaluation: performance falls with p_loss, and completion costs messages where something is lost."""
    config, rng, n = settings("lights").evaluate, np.random.default_rng(0), 8
    cells = [
        (mode, availability, p) for availability in ("lost", "true") for mode in modes_played("completion")
        for p in config.p_loss
    ]  # fmt: skip
    parts = []
    for mode, availability, p_loss in [*cells, (sweep.RANDOM, "lost", 0.0)]:
        talks = p_loss > 0 and mode.startswith("completion")
        parts.append(
            pd.DataFrame(
                {"agent": "rmiov2", "env": "toy/lights", "seed": 0, "mode": mode, "pattern": config.pattern,
                 "p_loss": p_loss, "episode": np.arange(n), "won": np.arange(n) < 4 * (1 - p_loss),
                 "return": rng.uniform(0, 12, n), "length": 12, "messages": 20 * talks, "bytes": 900 * talks,
                 "availability": availability, "measure": "win_rate"}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def evaluated(rows: pd.DataFrame, run_of: Any) -> Any:
    """The results gate's files, from rows that are as they should be, and then with other rows."""
    root, config = run_of("lights"), settings("lights")
    fill_replay(root, config)
    (root / "results").mkdir()

    def write(table: pd.DataFrame, summarised: pd.DataFrame = rows) -> Path:
        columns = {name: summarised[name].to_numpy() for name in sweep.COLUMNS}
        (root / "metrics/evaluate.json").write_text(json.dumps(sweep.summarise(columns, 20)))
        table.to_parquet(root / "results/episodes.parquet", index=False)
        return root

    return write


def test_a_good_evaluation_passes(evaluated: Any, rows: pd.DataFrame) -> None:
    evaluated(rows)
    said = receipt("results", settings("lights"))
    assert said["warnings"] == []
    assert {entry["table"]: entry["rows"] for entry in said["checked"]} == {
        "file": 1, "episodes": 61 * 8, "cells": 61, "curves": 10
    }  # fmt: skip


@pytest.mark.parametrize("harm", damage.ROWS, ids=lambda harm: harm.name)
def test_damage_to_an_evaluation_is_named(harm: damage.Damage, evaluated: Any, rows: pd.DataFrame) -> None:
    evaluated(harm.do(rows.copy()))
    found = broken("results", settings("lights"))
    assert set(found) == harm.breaks
    assert any(harm.where in sentence for sentence in found.values())


def test_a_truncated_evaluation_is_named(evaluated: Any, rows: pd.DataFrame) -> None:
    path = evaluated(rows) / "results/episodes.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert set(broken("results", settings("lights"))) == {"file_is_readable"}


def test_a_summary_that_is_off_by_a_hair_is_named(evaluated: Any, rows: pd.DataFrame) -> None:
    path = evaluated(rows) / "metrics/evaluate.json"
    told = json.loads(path.read_text())
    told["performance"]["zeros"][1] *= 1.0001
    path.write_text(json.dumps(told))
    assert set(broken("results", settings("lights"))) == {"summary_is_of_these_rows"}


def test_an_auc_that_is_not_that_of_the_rows_is_named(evaluated: Any, rows: pd.DataFrame) -> None:
    path = evaluated(rows) / "metrics/evaluate.json"
    said = json.loads(path.read_text())
    said["auc"]["completion"] += 0.01
    path.write_text(json.dumps(said))
    found = broken("results", settings("lights"))
    assert (
        set(found) == {"area_is_of_these_rows"}
        and "mode completion, availability lost" in found["area_is_of_these_rows"]
    )


def test_a_summary_of_another_grid_is_named(evaluated: Any, rows: pd.DataFrame) -> None:
    evaluated(rows, rows[rows.p_loss != 0.4])
    found = broken("results", settings("lights"))
    assert set(found) == {"summary_is_of_these_rows"} and "p_loss 0.4" in found["summary_is_of_these_rows"]


def test_every_expectation_of_an_evaluation_is_broken_by_some_damage() -> None:
    labels = {name: [] for name in ("agent", "env", "pattern", "measure")}
    rules = [*suites.file_rules(), *suites.episode_rules(labels, 1, 1), *suites.cell_rules(1, True)]
    rules += suites.curve_rules()
    assert {rule.name for rule in rules if not rule.warns} == set().union(*(harm.breaks for harm in damage.ROWS))


def test_a_team_that_plays_better_blind_is_warned_of_and_passes(
    evaluated: Any, rows: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    mode = (rows["mode"] == "zeros") & (rows.availability == "lost")
    rising = rows.assign(won=np.where(mode, rows.episode < 7 * rows.p_loss, rows.won))
    evaluated(rising, rising)
    said = receipt("results", settings("lights"))
    assert said["warnings"] == ["loss_does_not_help"]
    assert "warning: loss_does_not_help" in (err := capsys.readouterr().err) and "mode zeros" in err


# The whole pipeline.


@pytest.mark.pipeline
def test_a_damaged_buffer_stops_the_pipeline_before_training(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.run("dvc", "repro", "gate_collect")
    assert project.read("results/passed/collect.json") == {"gate": "collect", "passed": True}
    damage.put("obs", (30, 1, 2), np.nan)(project.root / "data/collect")
    project.run("dvc", "commit", "-f", "collect")
    stopped = subprocess.run(["dvc", "repro"], cwd=project.root, env=project.env, capture_output=True, text=True)
    assert stopped.returncode != 0
    assert "Running stage 'gate_collect'" in stopped.stdout and "Running stage 'pretrain'" not in stopped.stdout
    assert "observations_are_finite" in stopped.stderr and "shard-000001.safetensors, trajectory 2" in stopped.stderr
    assert not (project.root / "models/pretrain").exists()
    assert not (project.root / "metrics/gates/collect.json").exists()
    assert not (project.root / "results/passed/collect.json").exists()
    assert "observations_are_finite" in (project.root / "reports/data_docs/collect/index.html").read_text()
