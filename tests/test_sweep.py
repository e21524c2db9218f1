"""The sweep over p_loss, its file, and the scene, on toy games."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from test_stress import Breaking
from toy_players import Agent, Reader, StillAgent

from rmiov2.config import Evaluate
from rmiov2.envs.registry import make_env
from rmiov2.envs.toy import Lights
from rmiov2.evaluation import statistics, sweep
from rmiov2.evaluation.scene import record_scene, smooth_l1
from rmiov2.seeding import derive
from rmiov2.types import Step, UserError

MODES = ("completion", "completion_untuned", "zeros", "last_seen", "open_loop")


def settings(episodes: int = 12, num_envs: int = 13) -> Evaluate:
    return Evaluate(
        p_loss=(0, 0.5, 1), pattern="independent", episodes=episodes, num_envs=num_envs, seed=5, bootstrap=200
    )


# The sweep.


@pytest.fixture(scope="module")
def swept() -> Any:
    return sweep.evaluate(Agent(), Agent(), lambda n: make_env("toy/lights", n), settings(), "reader", seed=3)


def test_summary_says_what_is_known(swept: Any) -> None:
    summary = swept[1]
    for part in (summary, summary["true_availability"]):
        assert all(tuple(part[name]) == MODES for name in ("performance", "ci95", "auc", "auc_ci95"))
        assert part["performance"]["completion"][0] == 1 and part["performance"]["completion"][-1] == 0
        assert part["auc"]["zeros"] == pytest.approx(0.25) and part["auc_ci95"]["zeros"] == pytest.approx([0.25, 0.25])
        assert part["ci95"]["zeros"][0] == list(statistics.wilson(12, 12))
        assert max(part["performance"]["open_loop"]) < 0.6 and part["random"] == 0
    assert (summary["env"], summary["agent"], summary["measure"]) == ("toy/lights", "reader", "win_rate")
    assert summary["p_loss"] == [0, 0.5, 1] and summary["episodes"] == 12


def test_rows_are_complete_and_modes_play_the_same_games(swept: Any) -> None:
    rows = swept[0]
    assert tuple(rows) == sweep.COLUMNS and set(rows["seed"]) == {3}
    for availability in sweep.AVAILABILITIES:
        for mode in MODES:
            chosen = (rows["mode"] == mode) & (rows["availability"] == availability)
            assert [np.sum(rows["p_loss"][chosen] == p) for p in (0, 0.5, 1)] == [12, 12, 12]
    lost = rows["availability"] == "lost"
    assert np.array_equal(*(rows["messages"][lost & (rows["mode"] == mode)] for mode in ("zeros", "completion")))


def test_the_summary_needs_only_the_file(swept: Any, tmp_path: Path) -> None:
    rows, summary = swept
    path = tmp_path / "results" / "episodes.parquet"
    sweep.write_rows(rows, path)
    again = sweep.summarise(sweep.read_rows(path), 200)
    assert again == summary and json.loads(json.dumps(again)) == summary
    assert [file.name for file in path.parent.iterdir()] == ["episodes.parquet"]


def test_several_seeds_count_equally_however_many_games_each_played(swept: Any) -> None:
    """One seed wins what it sees; the other, of twice as many games, nothing."""
    rows = swept[0]
    other = {**rows, "seed": rows["seed"] + 1, "won": np.zeros_like(rows["won"])}
    both = {name: np.concatenate([rows[name], other[name], other[name]]) for name in rows}
    summary = sweep.summarise(both, 200)
    assert summary["performance"]["zeros"] == pytest.approx([0.5, 0, 0]) and summary["episodes"] == 36
    assert summary["auc"]["zeros"] == pytest.approx(0.125)
    assert summary["auc_ci95"]["zeros"] == pytest.approx([0.125, 0.125]), "neither seed's games differ"


class Begun(Lights):
    """Keeps the seeds from which its games began."""

    def __init__(self, num_envs: int, seeds: list[int | None]) -> None:
        super().__init__(num_envs, 0)
        self.seeds = seeds

    def reset(self, seed: int | None = None) -> Step:
        self.seeds.append(seed)
        return super().reset(seed)


class Asked(Agent):
    """Keeps for which mode, and whether told the masks, it was sent to play."""

    def __init__(self) -> None:
        self.asked: set[tuple[str | None, bool]] = set()

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Reader:
        self.asked.add((mode, true_availability))
        return super().team(num_envs, seed, mode, true_availability)


@pytest.fixture(scope="module")
def watched() -> tuple[list[int], Asked, Asked]:
    """The seeds of an evaluation's games, and its teams, tuned and untuned."""
    seeds: list[Any] = []
    tuned, untuned = Asked(), Asked()
    sweep.evaluate(tuned, untuned, partial(Begun, seeds=seeds), settings(), "reader", 3)
    return seeds, tuned, untuned


def test_the_control_is_made_and_chosen_on_games_that_nobody_reports(watched: tuple[list[int], Asked, Asked]) -> None:
    seeds, report = watched[0], derive(settings().seed, "env")
    assert seeds.count(report) == 2 * len(MODES) + 1, "every mode with either mask, and uniform play"
    made, *chosen = (seed for seed in seeds if seed != report)
    assert chosen and made not in chosen


def test_a_team_knows_whether_it_is_told_the_masks(watched: tuple[list[int], Asked, Asked]) -> None:
    _, tuned, untuned = watched
    assert untuned.asked == {("completion", False), ("completion", True)}
    own = {(mode, told) for mode in ("completion", "zeros", "last_seen") for told in (False, True)}
    assert tuned.asked == own | {(None, False)}, "and once for the control"


def test_summary_refuses_a_mixture_and_a_gap(swept: Any) -> None:
    rows = swept[0]
    gap = ~((rows["mode"] == "zeros") & (rows["p_loss"] == 1))
    with pytest.raises(UserError, match="every rate"):
        sweep.summarise({name: values[gap] for name, values in rows.items()}, 100)
    mixed = {**rows, "env": np.where(rows["mode"] == "zeros", "toy/clock", rows["env"]).astype(object)}
    with pytest.raises(UserError, match="exactly one"):
        sweep.summarise(mixed, 100)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate stage"):
        sweep.read_rows(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(UserError, match="not a Parquet file"):
        sweep.read_rows(tmp_path / "text.parquet")


def test_continuous_games_have_no_availability_to_leak() -> None:
    still, games = StillAgent(), partial(make_env, "toy/dials")
    rows, summary = sweep.evaluate(still, still, games, settings(episodes=30), "still", 0)
    assert "true_availability" not in summary and summary["measure"] == "step_return"
    assert summary["auc"]["zeros"] == pytest.approx(0.5, abs=0.02)
    low, high = summary["auc_ci95"]["zeros"]
    assert low < summary["auc"]["zeros"] < high and summary["random"] == pytest.approx(1 / 6, abs=0.05)
    assert set(rows["availability"]) == {"lost"}


def test_rows_that_cannot_be_written_leave_the_old_ones(
    swept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "episodes.parquet"
    sweep.write_rows(swept[0], path)
    before = path.read_bytes()

    def breaks_off(table: Any, where: Any, **_: Any) -> None:
        with where if hasattr(where, "write") else where.open("wb") as handle:
            handle.write(b"PAR1")
            raise ZeroDivisionError

    monkeypatch.setattr(pyarrow.parquet, "write_table", breaks_off)
    with pytest.raises(ZeroDivisionError):
        sweep.write_rows(swept[0], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_batch_is_shared_by_the_rates() -> None:
    assert sweep.rows_of(settings(num_envs=14)) == 12
    assert sweep.rows_of(settings(num_envs=1)) == 3
    assert sweep.rows_of(settings(num_envs=999, episodes=4)) == 12


# The scene.


def trend(rew: Any) -> Any:
    return rew / 2, np.arange(len(rew))


def test_scene_tells_one_episode() -> None:
    scene = record_scene(make_env("toy/lights", 2), Reader(2, "wait"), 0.5, 4, trend)
    assert json.loads(json.dumps(scene)) == scene
    seen, error = np.array(scene["seen"]), np.array(scene["error"])
    assert seen.shape == error.shape == (12, 3) and 0 < seen.mean() < 1
    # A lost light is acted on as zeros: one column off by one, half a square.
    assert error == pytest.approx(np.where(seen, 0, 0.5))
    assert scene["messages"] == np.cumsum((~seen).sum(axis=1)).tolist()
    assert scene["reward"]["raw"] == pytest.approx(seen.mean(axis=1), abs=1e-4)
    assert scene["reward"]["half_width"] == list(range(12)) and scene["won"] is False and scene["map"] is None
    shape = (12, 3, len(scene["series"]["names"][2]))
    truth, told = np.array(scene["series"]["truth"]), np.array(scene["series"]["reconstruction"])
    assert truth.shape == told.shape == shape and np.array_equal(told, truth * seen[..., None])
    again = record_scene(make_env("toy/lights", 2), Reader(2, "wait"), 0.5, 4, trend)
    assert again == scene


class Board(Lights):
    """toy/lights on a map: unit i stands where its light is, and that is what agents see of their own unit alone."""

    map_size = (5.0, 1.0)

    def units(self, row: int) -> Any:
        places = np.stack([self._light()[row], np.zeros(3)], axis=-1)
        return SimpleNamespace(positions=places, health=np.ones(3), team=np.zeros(3, int), alive=np.ones(3, bool))

    def decode_units(self, obs: Any) -> dict[str, Any]:
        own = obs.reshape(*obs.shape[:-1], 3, 5)  # (..., N, U, 5)
        visible = own.any(axis=-1)
        place = np.stack([own.argmax(axis=-1), np.zeros(visible.shape)], axis=-1)
        return {"positions": place, "health": visible.astype(float), "visible": visible}


def test_the_map_is_that_of_the_step_acted_in() -> None:
    """Agents that see, see their unit where the units of the same row say it stands; blind ones see none."""
    scene = record_scene(Board(1, 0), Reader(1, "wait"), 0.5, 4, trend)
    assert scene["kind"] == "smax" and json.loads(json.dumps(scene)) == scene
    assert len(scene["map"]["units"]) == len(scene["map"]["believed"]) == len(scene["seen"]) == 12
    for t, seen in enumerate(scene["seen"]):
        for agent in range(3):
            unit = scene["map"]["units"][t][agent]
            believed, true = (scene["map"][name][t][agent] for name in ("believed", "true_view"))
            assert true[agent] == {"x": unit["x"], "y": 0, "health": 1, "visible": True}
            assert believed == true if seen[agent] else not any(view["visible"] for view in believed)


class Growing(Lights):
    """toy/lights, of which each column moves twice as much as the one before it."""

    def _obs(self, first: Any) -> Any:
        return super()._obs(first) * 2.0 ** np.arange(15)


def test_the_columns_that_are_told_are_those_that_move_most() -> None:
    scene = record_scene(Growing(1, 0), Reader(1, "wait"), 0.5, 4, trend)
    assert scene["series"]["names"] == [[f"obs {column}" for column in range(9, 15)]] * 3


def test_the_spread_of_a_place_is_a_distance() -> None:
    """Agent 0 believes its unit at 0 or at 4, agent 1 its own at 4 or nowhere."""
    samples = np.zeros((2, 12, 3, 15), np.float32)
    samples[0, :, 0, 0] = samples[1, :, 0, 4] = samples[1, :, 1, 9] = 1
    look: Any = lambda *_: SimpleNamespace(attention=lambda: None, samples=lambda *_: samples)  # noqa: E731
    spread = record_scene(Board(1, 0), Reader(1, "wait"), 0.5, 4, trend, look=look)["map"]["spread"]
    found = {name: np.array(values)[:, [0, 1, 2], [0, 1, 2]] for name, values in spread.items()}
    expected = {"there": [1, 0.5, 0], "x": [2, 4, 0], "place": [2, 0, 0], "health": [1, 1, 0]}
    assert {name: found[name].tolist() for name in expected} == {name: [row] * 12 for name, row in expected.items()}


def test_a_scene_has_nothing_of_a_game_that_broke() -> None:
    """The first game of the row gets lost with its last step; the next is told whole, and counts from nothing."""
    scene = record_scene(Breaking(1), Reader(1, "wait"), 0.5, 4, trend)
    seen = np.array(scene["seen"])
    assert len(seen) == len(scene["error"]) == len(scene["reward"]["raw"]) == 12
    assert scene["messages"] == np.cumsum((~seen).sum(axis=1)).tolist()


def test_smooth_l1_is_that_of_torch() -> None:
    import torch

    got, truth = np.random.default_rng(0).normal(0, 2, size=(2, 50)).astype(np.float32)
    expected = torch.nn.functional.smooth_l1_loss(torch.tensor(got), torch.tensor(truth), reduction="none")
    assert smooth_l1(got, truth) == pytest.approx(expected.numpy())
