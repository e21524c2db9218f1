"""Episodes and controls on toy games whose right answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_players import LIGHTS, Reader

from rmiov2.envs.registry import make_env
from rmiov2.evaluation import controls, statistics
from rmiov2.evaluation.episodes import Tally, greedy_performance, performances, play, quotas, turns
from rmiov2.types import UserError

# Episodes.


def test_full_sight_answers_everything() -> None:
    rows = play(make_env("toy/lights", 4), Reader(4), "independent", 0.0, 10, seed=0)
    assert rows["won"].all() and len(rows["won"]) == 10
    assert rows["return"] == pytest.approx(np.full(10, 12.0)) and (rows["length"] == 12).all()
    assert not rows["messages"].any()
    assert performances(rows, "step_return") == pytest.approx(np.ones(10))


def test_loss_costs_its_share_and_is_counted() -> None:
    """A blind agent that waits earns nothing, so the return per step is 1 - p_loss; 3 messages a step are lost at 1."""
    rates = np.repeat([0.0, 0.25, 1.0], 20)
    rows = play(make_env("toy/lights", 60), Reader(60, "wait"), "independent", rates, 60, seed=1)
    got = [performances(rows, "step_return")[rows["p_loss"] == rate].mean() for rate in (0.0, 0.25, 1.0)]
    assert got == pytest.approx([1.0, 0.75, 0.0], abs=0.03)
    assert (rows["messages"][rows["p_loss"] == 1] == 36).all() and (rows["bytes"] == 8 * rows["messages"]).all()


def test_nothing_lost_may_reach_the_team() -> None:
    env, team = make_env("toy/lights", 30), Reader(30)
    play(env, team, "independent", 0.5, 30, seed=2)
    for obs, seen, avail in team.told:
        assert not obs[~seen].any() and not avail[~seen].any()
        assert obs[seen].any(axis=-1).all() and avail[seen].any(axis=-1).all()


def test_true_availability_is_handed_over_only_on_request() -> None:
    team = Reader(10)
    play(make_env("toy/lights", 10), team, "independent", 1.0, 10, seed=2, true_availability=True)
    assert all(avail.any(axis=-1).all() and not obs.any() for obs, _, avail in team.told)


def test_an_illegal_guess_becomes_waiting() -> None:
    """At p_loss = 1 every agent answers 1: right for light 0, illegal (2 * light + 2 = 1 mod 5) for light 2."""
    env = make_env("toy/lights", 50)
    for turn, _ in zip(turns(env, Reader(50), seed=3), range(12), strict=False):
        assert np.take_along_axis(turn.step.avail, turn.act[..., None], axis=-1).all()
    rows = play(env, Reader(50), "independent", 1.0, 50, seed=3)
    # Every agent meets every light 2 or 3 times in 12 steps, and light 0 is one of five.
    assert performances(rows, "step_return").mean() == pytest.approx(0.2, abs=0.02)


def test_short_episodes_are_not_over_represented() -> None:
    """toy/clock lasts 3 to 7 steps, equally often; taking whatever ends first would count too many threes."""
    env = make_env("toy/clock", 200)
    rows = play(env, controls.Uniform(env.spec, 200, 0), "independent", 0.0, 1000, seed=4)
    shares = np.bincount(rows["length"], minlength=8)[3:] / 1000
    assert shares == pytest.approx(np.full(5, 0.2), abs=0.04)
    expected = np.array([length * (length + 1) / 16 for length in rows["length"]])
    assert rows["return"] == pytest.approx(expected)


def test_every_rate_gets_its_episodes_in_even_shares() -> None:
    quota = quotas(np.array([0, 0, 0, 1, 1, 2]), 7)
    assert quota.tolist() == [3, 2, 2, 4, 3, 7]
    with pytest.raises(UserError):
        quotas(np.zeros(2, np.int64), 0)


def test_episodes_are_numbered_within_their_rate_whatever_ends_first() -> None:
    env = make_env("toy/clock", 10)
    rows = play(env, controls.Uniform(env.spec, 10, 0), "independent", np.repeat([0.0, 1.0], 5), 13, seed=0)
    for rate in (0.0, 1.0):
        assert rows["episode"][rows["p_loss"] == rate].tolist() == list(range(13))
    assert (np.diff(rows["row"][:13]) >= 0).all()


def test_the_same_seed_gives_the_same_rows_and_another_others() -> None:
    def rows(seed: int) -> Any:
        return play(make_env("toy/lights", 6), Reader(6), "bursty", 0.4, 12, seed)

    assert all(np.array_equal(rows(7)[name], values) for name, values in rows(7).items())
    assert not np.array_equal(rows(7)["return"], rows(8)["return"])


def test_progress_ends_at_what_was_wanted() -> None:
    seen: list[tuple[int, int]] = []
    play(make_env("toy/lights", 3), Reader(3), "independent", 0.0, 7, 0, progress=lambda *n: seen.append(n))
    assert seen[-1] == (7, 7) and seen == sorted(seen)


def test_greedy_performance_is_that_of_full_sight() -> None:
    env = make_env("toy/lights", 4)
    got = greedy_performance(env, lambda num_envs, seed: Reader(num_envs), 20, seed=0)
    assert got == (1.0, *statistics.wilson(20, 20))


def test_tally_drops_what_is_beyond_its_share() -> None:
    env = make_env("toy/clock", 3)
    tally = Tally(np.zeros(3, np.int64), np.array([2, 1, 0]))
    for turn, _ in zip(turns(env, controls.Uniform(env.spec, 3, 0), 0), range(60), strict=False):
        tally.add(turn.after, controls.Uniform(env.spec, 3, 0))
    assert tally.columns()["row"].tolist() == [0, 0, 1]


# Controls.


def test_open_loop_finds_what_needs_no_eyes_and_only_that() -> None:
    """toy/lights: the answers to one light of five can be learned by heart, and win whenever that light is drawn."""
    env = make_env("toy/lights", 40)
    tables = controls.candidates_of(env, Reader(40), 60, seed=0)
    assert tables.shape == (1 + controls.REPLAYED, 12, 3, 6)
    team = controls.fit_open_loop(env, tables, 60, seed=0)
    rows = play(env, team, "independent", 1.0, 600, seed=9)
    assert rows["won"].mean() == pytest.approx(0.2, abs=0.06)
    assert not rows["messages"].any() and not rows["bytes"].any()


def test_a_replayed_game_wins_the_same_game_again() -> None:
    env = make_env("toy/lights", 1)
    games = controls.record_games(env, Reader(1), 1, seed=3)
    assert games[0].won and games[0].total == pytest.approx(12)
    tables = controls.candidates(games, env.spec)
    again = [
        controls.record_games(env, controls.OpenLoop(env.spec, tables[[k]], np.zeros(1, np.int64)), 1, seed=3)[0]
        for k in range(len(tables))
    ]
    assert all(game.won and np.array_equal(game.act, games[0].act) for game in again)


def test_usual_actions_come_from_the_won_games() -> None:
    good = controls.Game(np.full((2, 3), 4), 1.0, True)
    bad = controls.Game(np.full((5, 3), 2), 9.0, False)
    tables = controls.candidates([bad, good, bad], LIGHTS)
    assert (tables[0].argmax(axis=-1) == 4).all() and tables[0].shape == (5, 3, 6)
    assert (tables[1].argmax(axis=-1) == 2).all()


def test_validation_keeps_the_best_candidate() -> None:
    """Dials at zero earn 0.5 on average whatever the phase, dials at one less; also with fewer rows than candidates."""
    env = make_env("toy/dials", 2)
    tables = np.stack([np.full((12, 3, 2), value, np.float32) for value in (1.0, 0.0, -1.0)])
    scores = controls.validate(env, tables, 40, seed=0, true_availability=False)
    assert scores.argmax() == 1 and scores[1] == pytest.approx(0.5, abs=0.05)
    assert controls.fit_open_loop(env, tables, 40, seed=0).tables == pytest.approx(tables[[1]])


def test_open_loop_restarts_its_clock_and_holds_its_end() -> None:
    table = np.eye(6, dtype=np.float32)[None, :3, None].repeat(3, axis=2)  # plays 0, 1, 2, 2, ...
    team = controls.OpenLoop(LIGHTS, table, np.zeros(2, np.int64))
    firsts = [(True, True), (False, False), (False, True), (False, False), (False, False)]
    played = [team.act(np.zeros((2, 3, 15), np.float32), first=np.array(first))[:, 0].tolist() for first in firsts]
    assert played == [[0, 0], [1, 1], [2, 0], [2, 1], [2, 2]]


def test_random_play_is_uniform_over_what_is_available() -> None:
    """toy/lights: 5 of 6 actions are available, one is right, so a fifth of the answers; dials: 1/6 a step."""
    env = make_env("toy/lights", 50)
    rows = controls.play_random(env, 300, seed=0)
    assert performances(rows, "step_return").mean() == pytest.approx(0.2, abs=0.01)
    assert controls.random_performance(env, 50, seed=0) == 0
    assert controls.random_performance(make_env("toy/dials", 50), 300, seed=0) == pytest.approx(1 / 6, abs=0.01)
