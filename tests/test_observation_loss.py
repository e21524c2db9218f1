"""Who is blind, how often and for how long: rates against binomial bounds, bursts, and the identity at p_loss = 0."""

from dataclasses import fields

import numpy as np
import pytest

from rmiov2.config import PATTERNS
from rmiov2.envs import make_env
from rmiov2.envs.observation_loss import BURST, Blinded, LossPattern, ObservationLoss, draw_seen
from rmiov2.envs.wrapper import Wrapper
from rmiov2.evaluation.blackout import Blackout
from rmiov2.evaluation.scene import Filmed
from rmiov2.types import Step, UserError


def within(count, trials, p, deviations=5):
    """Whether count of independent trials lies within so many standard deviations of p."""
    return abs(count - trials * p) <= deviations * np.sqrt(trials * p * (1 - p))


def bursts(lost):
    """Lengths of the interruptions of lost (T,) that begin and end inside."""
    edges = np.flatnonzero(np.diff(lost.astype(int)))
    edges = edges[int(lost[0]) :]  # one that was there from the start has no beginning
    return [end - begin for begin, end in zip(edges[::2], edges[1::2], strict=False)]


@pytest.mark.parametrize("p", [0, 0.2, 0.5, 0.9, 1])
def test_independent_loss_has_its_rate_per_agent(p):
    lost = ~draw_seen("independent", p, (100, 100, 3), np.random.default_rng(0))
    assert all(within(lost[..., i].sum(), 10_000, p) for i in range(3))


def test_independent_loss_of_one_agent_says_nothing_of_another_nor_of_the_next_step():
    lost = ~draw_seen("independent", 0.5, (100, 101, 2), np.random.default_rng(1))
    assert within((lost[:, 1:, 0] & lost[:, 1:, 1]).sum(), 10_000, 0.25)
    assert within((lost[:, 1:, 0] & lost[:, :-1, 0]).sum(), 10_000, 0.25, deviations=8)  # neighbours overlap


@pytest.mark.parametrize(("pattern", "steps"), [("bursty", BURST), ("bursty:9", 9), ("bursty:40", 40)])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_bursts_last_as_long_as_they_should_on_average_at_the_stationary_rate(p, pattern, steps):
    lost = ~draw_seen(pattern, p, (60, 200 * steps, 2), np.random.default_rng(0))
    assert lost.mean() == pytest.approx(p, abs=0.015)
    lengths = [length for row in lost[..., 0] for length in bursts(row)]
    assert np.mean(lengths) == pytest.approx(steps, rel=0.06)
    assert np.std(lengths) == pytest.approx(np.sqrt(steps * (steps - 1)), rel=0.12)  # geometric


def test_bursts_without_a_number_are_those_of_five_steps_to_the_bit():
    drawn = [draw_seen(name, 0.4, (50, 40, 3), np.random.default_rng(0)) for name in ("bursty", "bursty:5")]
    assert np.array_equal(*drawn)


def test_bursts_are_stationary_from_the_first_step_on():
    lost = ~draw_seen("bursty", 0.4, (4000, 2, 2), np.random.default_rng(0))
    assert all(within(lost[:, t, i].sum(), 4000, 0.4) for t in range(2) for i in range(2))


def test_bursts_grow_longer_where_the_rate_asks_for_it():
    lost = ~draw_seen("bursty", 0.95, (40, 1000, 1), np.random.default_rng(0))
    assert lost.mean() == pytest.approx(0.95, abs=0.01)
    assert np.mean([length for row in lost[..., 0] for length in bursts(row)]) == pytest.approx(19, rel=0.1)


def test_one_agent_is_gone_for_the_whole_episode():
    lost = ~draw_seen("one_agent", 0.4, (3000, 8, 3), np.random.default_rng(0))
    assert (lost == lost[:, :1]).all()
    assert set(lost[:, 0].sum(axis=1)) == {0, 1}
    assert within(lost[:, 0].any(axis=1).sum(), 3000, 0.4)
    assert all(within(lost[:, 0, i].sum(), 3000, 0.4 / 3) for i in range(3))


@pytest.mark.parametrize("agent", [0, 2])
def test_the_agent_that_is_named_is_the_one_that_is_gone(agent):
    lost = ~draw_seen(f"one_agent:{agent}", 0.4, (3000, 8, 3), np.random.default_rng(0))
    assert (lost == lost[:, :1]).all() and not np.delete(lost, agent, axis=2).any()
    assert within(lost[:, 0, agent].sum(), 3000, 0.4)


def test_whole_team_is_lost_together():
    lost = ~draw_seen("whole_team", 0.3, (100, 100, 4), np.random.default_rng(0))
    assert (lost == lost[..., :1]).all()
    assert within(lost[..., 0].sum(), 10_000, 0.3)


def test_a_new_episode_draws_a_new_victim():
    losses = LossPattern("one_agent", 1.0, 400, 2, np.random.default_rng(0))
    begin, go_on = np.ones(400, bool), np.zeros(400, bool)
    before = losses.draw(begin)
    assert np.array_equal(losses.draw(go_on), before)
    half = np.arange(400) < 200
    after = losses.draw(half)
    assert np.array_equal(after[200:], before[200:])
    assert within((after[:200] != before[:200]).all(axis=1).sum(), 200, 0.5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_row_may_have_its_own_rate(pattern):
    p = np.array([0.0] * 200 + [1.0] * 200, np.float32)
    lost = ~draw_seen(pattern, p, (400, 6, 3), np.random.default_rng(0))
    assert not lost[:200].any()
    assert (lost[200:].sum(axis=2) == 1).all() if pattern == "one_agent" else lost[200:].all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_drawn_does_not_depend_on_the_rows_before_or_on_when_episodes_end(pattern):
    """The generator is left in the same place whatever `first` says."""
    states = []
    for first in (np.zeros(5, bool), np.ones(5, bool)):
        rng = np.random.default_rng(0)
        losses = LossPattern(pattern, 0.5, 5, 3, rng)
        for _ in range(4):
            losses.draw(first)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1]


def test_wrong_settings_are_refused():
    rng = np.random.default_rng(0)
    for name in ("sometimes", "", "bursty:", "bursty:0", "bursty:2.5", "one_agent:-1", "independent:3"):
        with pytest.raises(UserError, match=f"unknown loss pattern '{name}', expected one of independent, bursty"):
            LossPattern(name, 0.5, 1, 3, rng)
    with pytest.raises(UserError, match="one_agent:3: expected one of the 3 agents, 0 to 2"):
        LossPattern("one_agent:3", 0.5, 1, 3, rng)
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="probability from 0 to 1"):
            LossPattern("independent", p, 1, 1, rng)


def record(env, seed=3, steps=40):
    rng, step = np.random.default_rng(0), env.reset(seed)
    steps_seen = [step]
    for _ in range(steps):
        step = env.step(np.argmax(rng.random(step.avail.shape) * step.avail, axis=-1))
        steps_seen.append(step)
    return steps_seen


def identical(left, right, but=()):
    return all(
        getattr(one, field.name).tobytes() == getattr(other, field.name).tobytes()
        for one, other in zip(left, right, strict=True)
        for field in fields(Step)
        if field.name not in but
    )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_loss_is_the_identity_to_the_bit(pattern):
    plain = record(make_env("toy/lights", 4))
    wrapped = record(ObservationLoss(make_env("toy/lights", 4), pattern, 0.0, seed=9))
    assert identical(plain, wrapped)


@pytest.mark.parametrize("pattern", ["independent", "bursty", "whole_team"])
def test_full_loss_blinds_everybody_and_changes_nothing_else(pattern):
    plain = record(make_env("toy/lights", 4))
    wrapped = record(ObservationLoss(make_env("toy/lights", 4), pattern, 1.0))
    assert not any(step.seen.any() for step in wrapped)
    assert identical(plain, wrapped, but=("seen",))


class Counting(Wrapper):
    """Games of which facts are known and some got lost, and how they were begun."""

    facts, breakable, lost_episodes = {"build": 1}, True, 3

    def __init__(self, env):
        self.env, self.spec, self.num_envs, self.calls = env, env.spec, env.num_envs, []

    def _shown(self, step):
        return step

    def reset(self, seed=None):
        self.calls.append(("reset", seed))
        return super().reset(seed)

    def restart(self, seed):
        self.calls.append(("restart", seed))
        return super().restart(seed)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: ObservationLoss(env, "bursty", 0.5), lambda env: Blinded(ObservationLoss(env, "bursty", 0.5)),
        lambda env: Blackout(env, 3, 12), Filmed,
    ],
)  # fmt: skip
def test_every_wrapper_hands_on_what_is_said_of_the_games_and_how_they_begin(wrap):
    inside = Counting(make_env("toy/lights", 4))
    env = wrap(inside)
    assert (env.spec, env.num_envs, env.facts, env.breakable) == (inside.spec, 4, {"build": 1}, True)
    env.reset()
    inside.lost_episodes, inside.facts = 5, {"build": 2}
    assert env.lost_episodes == 5 and env.facts == {"build": 2}
    first, again, other = env.restart(7), env.restart(7), env.reset(7)
    assert identical([first], [again]) and identical([first], [other])
    assert inside.calls == [("reset", None), ("restart", 7), ("restart", 7), ("reset", 7)]


def test_one_sequence_of_losses_per_seed():
    def seen(loss_seed, game_seed):
        env = ObservationLoss(make_env("toy/lights", 4), "independent", 0.5, seed=loss_seed)
        return [np.stack([step.seen for step in record(env, game_seed)]) for _ in range(2)]

    (first, again), (other_loss, _), (other_game, _) = seen(1, 3), seen(2, 3), seen(1, 4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other_loss) and not np.array_equal(first, other_game)


def test_the_wrapper_begins_a_new_episode_when_the_game_does():
    env = ObservationLoss(make_env("toy/clock", 30), "one_agent", 1.0)
    steps = record(env, steps=60)
    changed = np.zeros(30, int)
    for before, after in zip(steps, steps[1:], strict=False):
        differs = (before.seen != after.seen).any(axis=1)
        assert not (differs & ~after.first).any()
        changed += differs
    assert changed.sum() > 50  # half of about 300 new episodes
