"""Loss that nobody was trained on: a blackout is as long as it says, and what it costs is known on a game that is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from synthetic_run import CELLS, write_run, write_stress
from teams_on_shelves import save_agent, toy_config
from toy_players import Reader as Answers

from pipelines import params, paths
from pipelines.stages import stress as stage
from rmiov2.config import parse
from rmiov2.envs.base import Env
from rmiov2.envs.registry import make_env
from rmiov2.evaluation import stress as evaluation
from rmiov2.evaluation.blackout import Blackout
from rmiov2.evaluation.episodes import play
from rmiov2.evaluation.statistics import wilson
from rmiov2.evaluation.stress import COLUMNS, lasts, stress, summarise
from rmiov2.evaluation.sweep import evaluate_own
from rmiov2.reporting.run.results import read_results
from rmiov2.reporting.stress.figures import stress_pictures, stress_table
from rmiov2.reporting.stress.seeds import over_the_seeds
from rmiov2.reporting.style import styled
from rmiov2.types import Step, UserError

TOY = params.compose_values(["preset=toy", "env=toy_lights", "stress.episodes=48"])
CONFIG = parse(TOY, "test")


class Waiting:
    """An agent that reads lights, waits where it is blind, and has no other answer."""

    own_mode = "zeros"

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Answers:
        return Answers(num_envs, "wait")


class Remembering:
    """An agent that waits where it is blind, unless it is given a memory of three steps: then it guesses."""

    own_mode = "completion"

    def __init__(self, history: int = 1) -> None:
        self.history = history

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Answers:
        return Answers(num_envs, "guess" if self.history >= 3 else "wait")


def forgetful(history: int) -> Any:
    raise AssertionError("it completes nothing, so no memory is asked for")


def stressed(make: Any, settings: Any = CONFIG.stress, agent: Any = None, remembering: Any = forgetful) -> Any:
    """The rows and the summary of an agent, the waiting one unless another is named."""
    return stress(agent or Waiting(), remembering, make, CONFIG.evaluate, settings, "waiting", 3)


class Breaking(Env):
    """toy/lights, of which every second episode of a row gets lost with its last step."""

    facts: Mapping[str, Any] = MappingProxyType({"build": "4.10"})

    def __init__(self, num_envs: int) -> None:
        self.env, self.num_envs = make_env("toy/lights", num_envs), num_envs
        self.spec, self.ended = self.env.spec, np.zeros(num_envs, int)

    def reset(self, seed: int | None = None) -> Step:
        self.ended[:] = 0
        return self.env.reset(seed)

    def step(self, act: Any) -> Step:
        after = self.env.step(act)
        lost = after.done & (self.ended % 2 == 0)
        self.ended += after.done
        self.lost_episodes += int(lost.sum())
        return replace(after, lost=lost)

    def close(self) -> None:
        self.env.close()


def played(env: Any, seed: int, steps: int) -> list[Any]:
    """Steps of a game in which everybody waits."""
    found = [env.reset(seed)]
    for _ in range(steps):
        found.append(env.step(np.argmax(found[-1].avail, axis=-1)))
    return found


def spells(steps: list[Any]) -> list[tuple[int, int]]:
    """(begin, length) of what is dark in every whole episode of every row; length 0 where nothing is."""
    seen, first = np.stack([s.seen for s in steps]), np.stack([s.first for s in steps])
    assert (seen == seen[..., :1]).all()
    found = []
    for row in range(seen.shape[1]):
        starts = np.flatnonzero(first[:, row])
        for begin, end in zip(starts, starts[1:], strict=False):
            dark = np.flatnonzero(~seen[begin:end, row, 0])
            assert len(dark) == 0 or np.ptp(dark) == len(dark) - 1  # in one piece
            found.append((int(dark[0]) if len(dark) else -1, len(dark)))
    return found


def test_a_blackout_is_in_one_piece_as_long_as_it_says_and_begins_wherever_it_fits() -> None:
    """toy/lights has 12 actions: of 4 dark ones the first is one of the first 9."""
    found = spells(played(Blackout(make_env("toy/lights", 40), 4, 12), 3, 200))
    assert {length for _, length in found} == {4}
    assert {begin for begin, _ in found} == set(range(9))
    counts = np.bincount([begin for begin, _ in found])
    assert abs(counts - len(found) / 9).max() < 5 * np.sqrt(len(found) / 9)


@pytest.mark.parametrize(("steps", "usual_length", "begins", "endured"), [
    (4, 12, range(9), {4}),
    (11, 12, range(2), {11}),
    (12, 12, range(1), {12}),
    (20, 12, range(1), {12}),  # outlasts every episode
    (4, 15, range(12), {1, 2, 3, 4}),  # and here the usual one is longer than these
    (3, 20, range(12), {0, 1, 2, 3}),
    (0, 12, [-1], {0}),
])  # fmt: skip
def test_what_an_episode_endures_of_a_blackout_is_what_was_acted_on_in_the_dark(
    steps: int, usual_length: int, begins: Any, endured: set[int]
) -> None:
    env = Blackout(make_env("toy/lights", 40), steps, usual_length)
    whole = played(env, 3, 26 * 13)
    acted_on = np.stack([~step.seen[:, 0] & ~step.done for step in whole]).astype(int)
    of_episode = np.stack([acted_on[n * 13 : (n + 1) * 13].sum(axis=0) for n in range(26)], axis=1)
    assert [row[:26] for row in env.endured] == of_episode.tolist()
    assert set(of_episode.ravel().tolist()) == endured
    assert {begin for begin, _ in spells(whole) if begin < 12 and (begin >= 0 or not steps)} == set(begins)
    env.reset(3)
    assert env.endured == [[]] * 40


def test_an_episode_that_got_lost_has_endured_nothing() -> None:
    """What is kept by row are the episodes that count, in their order: each dark step cost its answer."""
    env = Blackout(Breaking(6), 4, 15)
    columns = play(env, Waiting().team(6, 0), "independent", 0.0, 30, 3)
    endured = np.concatenate([row[:5] for row in env.endured])
    assert columns["return"] == pytest.approx(12.0 - endured) and len(set(endured)) > 1


def test_what_got_lost_is_in_the_metrics() -> None:
    made: list[Breaking] = []

    def make(num_envs: int) -> Env:
        made.append(Breaking(num_envs))
        return made[-1]

    _, told = stressed(make)
    assert told["game"] == {"build": "4.10", "episodes_lost": made[0].lost_episodes} and made[0].lost_episodes > 48
    told = evaluate_own(Waiting(), make, CONFIG.evaluate)
    assert told["game"] == {"build": "4.10", "episodes_lost": made[1].lost_episodes} and made[1].lost_episodes > 0


def test_every_row_has_its_own_length_and_none_is_the_identity() -> None:
    lengths = np.array([0, 1, 5])
    dark, plain = (
        played(Blackout(make_env("toy/lights", 3), lengths, 1), 3, 30),  # of a usual length that all begin at once in
        played(make_env("toy/lights", 3), 3, 30),
    )
    for one, other in zip(dark, plain, strict=True):
        assert one.obs.tobytes() == other.obs.tobytes() and one.seen[0].all()
    assert [(~step.seen[:, 0]).tolist() for step in dark[:6]] == [
        [False, True, True], *[[False, False, True]] * 4, [False, False, False]
    ]  # fmt: skip


def test_the_same_seed_goes_dark_at_the_same_steps_and_another_at_others() -> None:
    env = Blackout(make_env("toy/lights", 20), 3, 12)
    first, again, other = (np.stack([s.seen for s in played(env, seed, 40)]) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(("steps", "usual_length"), [(-1, 5), (3, 0)])
def test_a_blackout_that_cannot_be_is_refused(steps: int, usual_length: int) -> None:
    with pytest.raises(UserError, match=f"got {steps} steps in a usual {usual_length}"):
        Blackout(make_env("toy/lights", 2), steps, usual_length)


@pytest.fixture(scope="module")
def result() -> tuple[dict[str, Any], dict[str, Any]]:
    return stressed(partial(make_env, "toy/lights"))


def test_what_is_lost_costs_its_share(result: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """A blind agent waits and earns nothing: of 12 answers of 3 agents, one agent gone takes a third of each."""
    rows, _ = result
    share = rows["return"] / 12
    own = rows["mode"] == "zeros"
    gone = own & (rows["pattern"] == "one_agent")
    assert share[gone] == pytest.approx(np.full(gone.sum(), 2 / 3), abs=1e-6)
    bursty = own & (rows["pattern"] == "bursty")
    for rate in (0.2, 0.6):
        assert share[bursty & (rows["p_loss"] == rate)].mean() == pytest.approx(1 - rate, abs=0.08)
    for steps in (0, 1, 4):
        dark = own & (rows["pattern"] == "blackout") & (rows["dark"] == steps)
        assert share[dark] == pytest.approx(np.full(dark.sum(), 1 - steps / 12))
        assert set(rows["endured"][dark]) == {steps}
    assert not rows["endured"][rows["pattern"] != "blackout"].any()


def test_a_blackout_that_outlasts_the_episode_costs_what_was_endured_and_is_told_so() -> None:
    """Cut off by the end, 12 and 40 steps are one treatment, in numbers and in what is said of them."""
    longer = CONFIG.stress.model_copy(update={"blackout": (3, 12, 40)})
    rows, told = stressed(partial(make_env, "toy/lights"), longer)
    dark = (rows["mode"] == "zeros") & (rows["pattern"] == "blackout")
    for steps, endured in ((0, 0), (3, 3), (12, 12), (40, 12)):
        chosen = dark & (rows["dark"] == steps)
        assert chosen.sum() == 48 and set(rows["endured"][chosen]) == {endured}
    assert rows["return"][dark] == pytest.approx(12.0 - rows["endured"][dark])
    assert told["blackout"]["steps"] == [3, 12, 40] and told["blackout"]["endured"]["zeros"] == [3, 12, 12]


def test_the_rows_are_all_there_and_the_summary_is_made_of_them(result: tuple[dict[str, Any], dict[str, Any]]) -> None:
    rows, summary = result
    assert tuple(rows) == COLUMNS and set(rows["seed"]) == {3} and set(rows["agent"]) == {"waiting"}
    modes = ["zeros", "last_seen", "open_loop"]
    levels = len(CONFIG.evaluate.p_loss) + 1 + len(CONFIG.stress.blackout)
    assert len(rows["won"]) == 48 * (1 + len(modes) * levels)
    assert summary == summarise(rows, CONFIG.evaluate.bootstrap)
    assert summary["full_sight"]["performance"] == 1 and summary["full_sight"]["usual_length"] == 12
    assert summary["blackout"]["steps"] == [1, 4] and list(summary["blackout"]["performance"]) == modes
    assert list(summary["one_agent"]["performance"]) == list(summary["bursty"]["auc"]) == modes
    won = rows["won"][(rows["mode"] == "zeros") & (rows["dark"] == 4)]
    assert summary["blackout"]["performance"]["zeros"][1] == pytest.approx(won.mean())


def test_what_is_said_of_a_loss_is_of_its_own_games(result: tuple[dict[str, Any], dict[str, Any]]) -> None:
    rows, summary = result
    for mode, told in summary["one_agent"]["performance"].items():
        gone = (rows["pattern"] == "one_agent") & (rows["mode"] == mode)
        assert told == pytest.approx(rows["won"][gone].mean())
    assert summary["one_agent"]["performance"]["zeros"] == 0, "a third of every answer is missing"
    assert summary["one_agent"]["ci95"]["zeros"] == list(wilson(0, 48))
    assert summary["full_sight"]["ci95"] == list(wilson(48, 48))


class Idle:
    """Does nothing, and keeps whether it was told the masks."""

    own_mode = "zeros"

    def __init__(self) -> None:
        self.told: set[bool] = set()

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Any:
        self.told.add(true_availability)
        none = np.zeros(num_envs, np.int64)
        return SimpleNamespace(messages=none, bytes=none, act=lambda obs, **_: np.zeros(obs.shape[:2], np.int64))


def test_a_blackout_is_laid_into_the_median_length_and_nobody_is_told_the_masks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """toy/clock lasts 3 to 7 steps, as often each."""
    laid, agent = [], Idle()

    def laying(env: Env, steps: Any, usual_length: int) -> Blackout:
        laid.append(usual_length)
        return Blackout(env, steps, usual_length)

    monkeypatch.setattr(evaluation, "Blackout", laying)
    rows, summary = stressed(partial(make_env, "toy/clock"), agent=agent)
    median = int(np.median(rows["length"][(rows["pattern"] == "blackout") & (rows["dark"] == 0)]))
    assert set(laid) == {median} == {summary["full_sight"]["usual_length"]} and 4 <= median <= 6
    assert agent.told == {False}


def test_a_memory_is_as_long_as_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "FINETUNED", tmp_path)
    config = toy_config()
    save_agent(config, tmp_path, 1)
    agents = [stage.remembering(config, steps) for steps in (2, 9)]
    assert [agent.config.execution.history for agent in agents] == [2, 9] and config.execution.history == 6


def test_each_memory_is_played_at_every_rate_and_told_by_its_length() -> None:
    rows, told = stressed(partial(make_env, "toy/lights"), agent=Remembering(), remembering=Remembering)
    chosen = rows["pattern"] == "memory"
    grid = CONFIG.evaluate.p_loss
    assert chosen.sum() == 48 * 2 * len(grid) and set(rows["history"][chosen]) == {1, 3}
    assert set(rows["mode"][chosen]) == {"completion"} and not rows["history"][~chosen].any()
    short, long = (rows["return"][chosen & (rows["history"] == steps)] / 12 for steps in (1, 3))
    assert short.mean() == pytest.approx(1 - np.mean(grid), abs=0.05)
    blind = rows["p_loss"][chosen & (rows["history"] == 1)] == 1
    assert not short[blind].any() and long[blind].any(), "who guesses is right now and then"
    assert told["memory"]["history"] == [1, 3] and told["memory"]["p_loss"] == list(grid)
    for index, steps in enumerate((1, 3)):
        own = chosen & (rows["history"] == steps)
        won = [rows["won"][own & (rows["p_loss"] == p)].mean() for p in grid]
        assert told["memory"]["performance"][index] == pytest.approx(won)
        lo, hi = told["memory"]["auc_ci95"][index]
        assert lo <= told["memory"]["auc"][index] <= hi
    assert told == summarise(rows, CONFIG.evaluate.bootstrap)
    assert "memory" not in stressed(partial(make_env, "toy/lights"))[1], "who completes nothing has none"


def test_a_team_lasts_until_half_is_gone() -> None:
    def lasted(*left: float) -> Any:
        return lasts([1, 2, 5], left, [(value - 0.15, value + 0.15) for value in left], 1.0)

    assert lasted(0.9, 0.5, 0.3) == {"steps": 2, "undecided": [2]}
    assert lasted(0.9, 0.8, 0.4) == {"steps": 2, "undecided": [5]}
    assert lasted(0.3, 0.9, 0.9) == {"steps": 0, "undecided": []}  # what comes back after has not lasted
    assert lasted(0.9, 0.9, 0.9) == {"steps": 5, "undecided": []}
    assert lasts([1], [-3.0], [(-4.0, -2.0)], -1.0) is None


def test_lengths_that_do_not_rise_are_refused() -> None:
    good = {"blackout": [1, 3], "history": [2], "episodes": 2}
    for name in ("blackout", "history"):
        with pytest.raises(UserError, match=rf"stress.*{name}: got \[3, 1\], expected rising lengths"):
            parse(params.compose_values([]) | {"stress": good | {name: [3, 1]}}, "test")


@pytest.mark.parametrize("kind", ["smax", "robot"])
def test_the_pictures_and_the_table_say_what_the_stage_found(tmp_path: Path, kind: str) -> None:
    (tmp_path / "metrics").mkdir()
    summary = write_stress(tmp_path, kind)
    with styled():
        blackout, bursty, memory = stress_pictures(summary)
    for picture, block, over in ((blackout, summary["blackout"], "steps"), (bursty, summary["bursty"], "p_loss")):
        rows = list(csv.DictReader(io.StringIO(picture.data.decode())))
        told = [(row["mode"], float(row[over]), float(row[summary["measure"]])) for row in rows]
        assert told == [
            (mode, x, value)
            for mode, curve in block["performance"].items()
            for x, value in zip(block[over], curve, strict=True)
        ]
    endured = [float(row["endured"]) for row in csv.DictReader(io.StringIO(blackout.data.decode()))]
    assert endured == sum(summary["blackout"]["endured"].values(), [])
    assert "completion 5 (undecided at 5, 20), zeros 1, last seen 1, open loop none" in blackout.caption
    assert "the longest, 20 steps, lasts on average completion 12.2" in blackout.caption
    table, dark, memories = stress_table(summary)
    assert [cell.value for cell in dark.rows[0].cells] == summary["blackout"]["endured"]["completion"]
    gone = {row.name: row.cells[0].value for row in table.rows}
    assert list(gone.values()) == list(summary["one_agent"]["performance"].values())
    block = summary["memory"]
    told = [(int(row["history"]), float(row["p_loss"])) for row in csv.DictReader(io.StringIO(memory.data.decode()))]
    assert told == [(steps, p) for steps in block["history"] for p in block["p_loss"]]
    assert [row.cells[0].value for row in memories.rows] == block["auc"] and memories.rows[1].name == "5, as trained"
    assert "fine-tuned on windows of 5 steps" in memory.caption and "48 episodes per point, bands" in memory.caption
    assert stress_pictures(None) == [] and stress_table(None) == ()


def test_a_team_without_a_memory_has_no_picture_of_it(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    summary = write_stress(tmp_path)
    del summary["memory"]
    with styled():
        assert [picture.name for picture in stress_pictures(summary)] == ["stress_blackout", "stress_bursty"]
    assert len(stress_table(summary)) == 2


def test_seeds_are_one_by_their_mean_and_students_interval(tmp_path: Path) -> None:
    """Of two seeds that are 0.4 apart: half of that times t(0.975, 1) = 12.706, cut at what a win rate can be."""
    (tmp_path / "metrics").mkdir()
    first, other = write_stress(tmp_path), write_stress(tmp_path)
    alone = over_the_seeds([(0, first)])
    dark = {key: value for key, value in first["blackout"].items() if key != "lasts"}
    assert alone == first | {"seeds": 1, "blackout": dark | {"lasts": alone["blackout"]["lasts"]}}
    other["one_agent"]["performance"] = {mode: value + 0.4 for mode, value in first["one_agent"]["performance"].items()}
    other["memory"]["auc"][1] += 0.02
    other["blackout"]["endured"]["completion"] = [1.0, 2.0, 5.5, 14.25]
    both = over_the_seeds([(0, first), (1, other)])
    assert both["seeds"] == 2 and "for each of 2 seeds" in stress_pictures(both)[0].caption
    assert both["one_agent"]["performance"]["completion"] == pytest.approx(0.65)
    assert both["one_agent"]["ci95"]["completion"] == [0, 1]
    half = 12.7062 * 0.01
    assert both["memory"]["auc_ci95"][1] == pytest.approx([0.76 - half, 0.76 + half], abs=1e-4)
    assert both["bursty"]["ci95"]["completion"][0] == pytest.approx([0.8 - 0.04 / 2**0.5, 0.8 + 0.04 / 2**0.5])
    assert both["blackout"]["endured"]["completion"] == [1.0, 2.0, 5.0, 13.25]
    assert both["blackout"]["lasts"]["completion"]["steps"] == 5
    with pytest.raises(UserError, match="differ in task, rates or lengths"):
        over_the_seeds([(0, first), (1, first | {"blackout": first["blackout"] | {"steps": [1, 2, 5, 10]}})])


def test_teams_of_one_seed_count_once_under_loss_that_they_were_not_trained_on(tmp_path: Path) -> None:
    """Seed 0 on two processors is its mean, of half as much luck; alone it has no interval but that of its episodes."""
    (tmp_path / "metrics").mkdir()
    first, other, third = (write_stress(tmp_path) for _ in range(3))
    other["one_agent"]["performance"] = {mode: value + 0.2 for mode, value in first["one_agent"]["performance"].items()}
    other["bursty"]["performance"]["zeros"] = [value + 0.1 for value in first["bursty"]["performance"]["zeros"]]
    third["one_agent"]["performance"] = {mode: value + 0.1 for mode, value in first["one_agent"]["performance"].items()}
    both = over_the_seeds([(0, first), (0, other), (1, third)])
    assert both["seeds"] == 2 and both["one_agent"]["performance"]["zeros"] == pytest.approx(0.4)
    luck = (0.05 / 2**0.5, 0.05)
    assert np.ptp(both["one_agent"]["ci95"]["zeros"]) == pytest.approx(np.hypot(*luck))
    assert both["bursty"]["each"]["zeros"][0] == pytest.approx(np.array(first["bursty"]["performance"]["zeros"]) + 0.05)
    assert len(both["memory"]["each"]) == 2
    alone = over_the_seeds([(0, first), (0, other)])
    assert alone["seeds"] == 1 and "each" not in alone["blackout"]
    assert np.ptp(alone["one_agent"]["ci95"]["zeros"]) == pytest.approx(2 * luck[0])


def test_seeds_too_far_apart_for_a_band_are_drawn_one_by_one(tmp_path: Path) -> None:
    """Of two seeds 0.2 apart the interval is all of the scale; their own curves are what can be read."""
    (tmp_path / "metrics").mkdir()
    first, other = write_stress(tmp_path), write_stress(tmp_path)
    other["blackout"]["performance"]["zeros"] = [v + 0.2 for v in first["blackout"]["performance"]["zeros"]]
    other["memory"]["auc"][1] -= 0.3
    both = over_the_seeds([(0, first), (1, other)])
    assert both["bursty"]["each"]["zeros"] == [first["bursty"]["performance"]["zeros"]] * 2
    with styled():
        blackout, bursty, memory = stress_pictures(both)
    said = "thin lines are single seeds, as 95 % intervals of their mean span most of the scale"
    assert said in blackout.caption and said in memory.caption
    assert said not in bursty.caption and "bands are 95 % intervals of their mean" in bursty.caption
    rows = [row for row in csv.DictReader(io.StringIO(blackout.data.decode())) if row["mode"] == "zeros"]
    for name, seed in (("seed_1", first), ("seed_2", other)):
        assert [float(row[name]) for row in rows] == seed["blackout"]["performance"]["zeros"]
    kept = csv.DictReader(io.StringIO(memory.data.decode()))
    assert {(row["history"], float(row["auc_seed_2"])) for row in kept} == {
        (str(steps), area) for steps, area in zip(other["memory"]["history"], other["memory"]["auc"], strict=True)
    }
    with styled():
        alone = stress_pictures(over_the_seeds([(0, first)]))[0]
    assert "seed_1" not in alone.data.decode() and "bands are 95 % intervals" in alone.caption


def test_a_summary_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    root = write_run(tmp_path)
    assert read_results(root, CELLS).stress is None
    summary = write_stress(root)
    assert read_results(root, CELLS).stress == summary
    (root / "metrics/stress.json").write_text(json.dumps({"measure": "win_rate"}))
    with pytest.raises(UserError, match=r"stress.json lacks env, agent, episodes.*`dvc repro -f -s stress`"):
        read_results(root, CELLS)


@pytest.mark.parametrize(("key", "other", "said"), [
    ("env", "smax/8m", "of rmiov2 on smax/8m, and metrics/evaluate.json of rmiov2 on smax/3m"),
    ("agent", "mappo", "of mappo on smax/3m, and metrics/evaluate.json of rmiov2 on smax/3m"),
    ("blackout", {"steps": [1], "performance": {}, "ci95": {}, "lasts": {}}, "stress.json lacks endured"),
    ("memory", {"history": [1]}, "stress.json lacks own, p_loss"),
])  # fmt: skip
def test_a_summary_of_another_run_or_an_older_kind_is_refused(tmp_path: Path, key: str, other: Any, said: str) -> None:
    root = write_run(tmp_path)
    (root / "metrics/stress.json").write_text(json.dumps(write_stress(root) | {key: other}))
    with pytest.raises(UserError, match=said + r".*`dvc repro -f -s stress`"):
        read_results(root, CELLS)
