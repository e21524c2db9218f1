"""The sweep over p_loss, its file, and the scene, on toy games."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_players import Agent, Reader, StillAgent

from rmiov2.config import Evaluate
from rmiov2.envs.registry import make_env
from rmiov2.envs.toy import Lights
from rmiov2.evaluation import statistics, sweep
from rmiov2.evaluation.scene import record_scene, smooth_l1
from rmiov2.types import UserError

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


def test_several_seeds_count_equally(swept: Any) -> None:
    rows = swept[0]
    other = {**rows, "seed": rows["seed"] + 1, "won": np.zeros_like(rows["won"])}
    both = {name: np.concatenate([rows[name], other[name]]) for name in rows}
    assert sweep.summarise(both, 200)["performance"]["zeros"] == pytest.approx([0.5, 0, 0])


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


def test_smooth_l1_is_that_of_torch() -> None:
    import torch

    got, truth = np.random.default_rng(0).normal(0, 2, size=(2, 50)).astype(np.float32)
    expected = torch.nn.functional.smooth_l1_loss(torch.tensor(got), torch.tensor(truth), reduction="none")
    assert smooth_l1(got, truth) == pytest.approx(expected.numpy())
