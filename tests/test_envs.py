"""Every environment keeps the contract, the check finds what breaks it, and each adapter tells the truth."""

import importlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rmiov2.envs import list_envs, make_env
from rmiov2.envs.bare_packages import bare
from rmiov2.envs.base import legalise
from rmiov2.envs.check import check_env
from rmiov2.envs.registry import SUITES
from rmiov2.envs.toy import Clock
from rmiov2.types import UserError

ROWS = 3
NAMES = [
    "toy/lights", "toy/dials", "toy/clock", "smax/3m", "mamujoco/HalfCheetah-2x3", "mamujoco/Walker2d-2x3",
    "pettingzoo/zoo:Relay", "pettingzoo/zoo:Push", "python/own_env:Meeting",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_is_kept(name):
    env = make_env(name, ROWS)
    lines = check_env(env)
    env.close()
    env.close()
    assert env.spec.name == name and len(lines) == 7 and "unchecked" not in " ".join(lines)


# Each breaks the contract in one way, by what it changes in the steps of toy/clock.


class OverwritesItsObservation(Clock):
    def _row(self, rew, first):
        step = super()._row(rew, first)
        self.memory = getattr(self, "memory", step.obs)
        self.memory[:] = step.obs
        return replace(step, obs=self.memory)


class ForgetsItsSeed(Clock):
    def _begin(self, seed):
        return super()._begin(int(np.random.default_rng().integers(2**31)))


class HeedsWhoIsDone(Clock):
    def _row(self, rew, first):
        step = super()._row(rew, first)
        return replace(step, state=step.state + self._act.sum(axis=1, keepdims=True).astype(np.float32))


class PlaysAnything(Clock):
    def step(self, act):
        return super().step(np.minimum(act, 1))


def changed(**changes):
    """A clock whose steps are changed by functions of the step."""

    class Changed(Clock):
        def _row(self, rew, first):
            step = super()._row(rew, first)
            return replace(step, **{name: change(step) for name, change in changes.items()})

    return Changed


def saying(**changes):
    """A clock that says of itself what is not so."""

    class Saying(Clock):
        def __init__(self, num_envs, seed):
            super().__init__(num_envs, seed)
            self.spec = replace(self.spec, **changes)

    return Saying


BROKEN = {
    "overwritten": OverwritesItsObservation,
    "same seed": ForgetsItsSeed,
    "row that was done": HeedsWhoIsDone,
    "plays an action that is not allowed": PlaysAnything,
    "obs is float64": changed(obs=lambda s: s.obs.astype(float)),
    "state is float32 of shape": changed(state=lambda s: s.state[:, :1]),
    "both terminated and truncated": changed(truncated=lambda s: s.truncated | s.terminated),
    "lost, its game broken, and yet decided": changed(lost=lambda s: s.done),
    "won before it ended": changed(won=lambda s: ~s.done),
    "no available action": changed(avail=lambda s: s.avail & s.first[:, None, None]),
    "none of spec.idle_actions": changed(avail=lambda s: np.stack([s.avail[..., 0] & False, s.avail[..., 1]], -1)),
    "first must mark": changed(first=lambda s: s.first | s.done),
    "the first row of an episode has a reward": changed(rew=lambda s: s.rew + s.first.astype(np.float32)),
    "agent 1 has an observation beyond its width 3": saying(obs_widths=(11, 3)),
    "agent 1 may act beyond its width 1": saying(act_widths=(2, 1)),
    "an episode is longer than spec.episode_limit = 6": saying(episode_limit=6),
    "spec.measure is 'score'": saying(measure="score"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_the_check_finds_what_breaks_the_contract(mistake):
    with pytest.raises(UserError, match=mistake):
        check_env(BROKEN[mistake](ROWS, 0))


@pytest.mark.parametrize(("name", "part"), [("observation", "obs"), ("state", "state"), ("reward", "rew")])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_not_finite_is_refused_where_it_arises(name, part, number):
    with pytest.raises(UserError, match=f"a {name} that is not finite"):
        changed(**{part: lambda s: np.full_like(getattr(s, part), number)})(ROWS, 0).reset()


# Names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smaxx/3m", "did you mean 'smax'"),
        ("toy/light", "did you mean 'lights'"),
        ("smax/2s3zz", "did you mean '2s3z'"),
        ("toy", "expected toy/MAP"),
        ("mamujoco/HalfCheeta-2x3", "did you mean 'HalfCheetah'"),
        ("mamujoco/HalfCheetah-3x3", "HalfCheetah-2x3, HalfCheetah-6x1"),
        ("mamujoco/ManySegmentSwimmer-1", "AGENTSxSEGMENTS"),
        ("pettingzoo/no_such_module", "no module no_such_module"),
        ("pettingzoo/zoo:Chase", "zoo has no Chase"),
        ("python/no_such_module:Env", "no module no_such_module"),
        ("python/own_env", "expected MODULE:CLASS"),
        ("python/:Meeting", "expected MODULE:CLASS"),
        ("python/.own_env:Meeting", "expected MODULE:CLASS"),
        ("python/own_env:Parting", "own_env has no Parting"),
        ("python/zoo:Relay", "is called with .num_envs, seed."),
        ("python/collections:OrderedDict", "is called with|expected an rmiov2.envs.base.Env"),
    ],
)
def test_a_wrong_name_is_answered_with_what_to_do(name, message):
    with pytest.raises(UserError, match=message):
        make_env(name, 1)


def test_no_games_at_all_are_refused():
    with pytest.raises(UserError, match="num_envs = 0"):
        make_env("toy/lights", 0)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'jaxmarl'", name="jaxmarl")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"smax/3m needs jaxmarl.*pip install 'rmiov2\[smax\]'"):
        make_env("smax/3m", 1)


ALONE = """
import sys
from rmiov2.envs.registry import make_env
make_env("smax/3m", 1).close()
loaded = [name for name in sys.modules if name.startswith("jaxmarl")]
assert loaded and not {"jaxmarl", "jaxmarl.environments", "jaxmarl.environments.storm"} & set(loaded), loaded
import jaxmarl
from jaxmarl.environments.smax import map_name_to_scenario
assert jaxmarl.make("MPE_simple_v3") and map_name_to_scenario("corridor").num_allies == 6
"""


def test_smax_does_without_jaxmarls_other_games_and_leaves_them_whole():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_that_is_not_there_cannot_be_bare():
    before = dict(sys.modules)
    for names in (("no_such_package",), ("json", "json.no_such_package"), ("json", "json.tool")):
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{names[-1]}'"), bare(*names):
            pass
    assert sys.modules == before


def test_the_table_has_no_ghosts():
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    for suite in SUITES.values():
        module, _, made = suite.target.partition(":")
        assert callable(getattr(importlib.import_module(module), made))
    assert set(SUITES["smax"].maps) == set(MAP_NAME_TO_SCENARIO)
    for row in list_envs():
        suite, _, map_name = row.name.partition("/")
        if suite in ("toy", "mamujoco"):
            make_env(row.name, 1).close()


def test_resets_without_a_seed_go_on_and_with_one_begin_anew():
    def starts(env):
        return [env.reset().state for _ in range(3)]

    first, again = starts(make_env("toy/dials", 4, seed=5)), starts(make_env("toy/dials", 4, seed=5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[1], first[2])
    assert np.array_equal(make_env("toy/dials", 4, seed=9).reset(5).state, first[0])


@pytest.mark.parametrize("name", ["toy/dials", "mamujoco/HalfCheetah-2x3", "pettingzoo/zoo:Relay"])
def test_games_side_by_side_are_games_of_their_own(name):
    """test_smax and test_smac have their own."""
    env = make_env(name, 20)
    state = env.reset(0).state
    env.close()
    assert len(np.unique(state, axis=0)) == 20


def test_step_before_reset_is_refused():
    with pytest.raises(UserError, match="call reset first"):
        make_env("toy/lights", 1).step(np.zeros((1, 3), int))


def test_legalise_changes_only_what_is_illegal():
    env = make_env("toy/lights", 5)
    avail = env.reset().avail
    wrong = (env.answers() + 1) % 5
    assert np.array_equal(legalise(env.answers(), avail, env.spec), env.answers())
    assert (legalise(wrong, avail, env.spec) == 5).all()


# MaMuJoCo


@pytest.mark.parametrize("robot", ["HalfCheetah-2x3", "Ant-4x2", "ManySegmentSwimmer-4x2"])
def test_mamujoco_is_what_gymnasium_robotics_plays(robot):
    from gymnasium_robotics import mamujoco_v1

    from rmiov2.seeding import derive

    env, rng = make_env(f"mamujoco/{robot}", 2), np.random.default_rng(0)
    original = mamujoco_v1.parallel_env(*robot.split("-"), agent_obsk=1)
    step = env.reset(seed=4)
    own, _ = original.reset(seed=derive(4, 1))
    for _ in range(20):
        for i, expected in enumerate(own.values()):
            assert np.array_equal(step.obs[1, i, : len(expected)], expected.astype(np.float32))
        assert np.array_equal(step.state[1], original.state().astype(np.float32))
        act = rng.uniform(-1, 1, (2, env.spec.num_agents, env.spec.act_dim)).astype(np.float32)
        step = env.step(act)
        own, rewards, terminations, _, _ = original.step(dict(zip(original.possible_agents, act[1], strict=True)))
        assert step.rew[1] == pytest.approx(rewards["agent_0"], rel=1e-6)
        assert step.terminated[1] == terminations["agent_0"]
    original.close()


def test_mamujoco_scales_to_the_true_bounds():
    env = make_env("mamujoco/Pusher-3p", 1)  # bounds -2 and 2
    env.reset()
    robot = env._robots[0].unwrapped
    for share in (-1.0, 0.0, 0.5, 1.0):
        env.step(np.full((1, 3, 3), share, np.float32))
        assert robot.data.ctrl == pytest.approx(np.full(7, 2 * share))


def test_a_robot_whose_time_is_up_is_truncated_and_has_not_fallen():
    env = make_env("mamujoco/HalfCheetah-2x3", 1)
    env._robots[0]._max_episode_steps = 3  # of 1000
    env.reset(0)
    steps = [env.step(np.zeros((1, 2, 3), np.float32)) for _ in range(4)]
    env.close()
    assert [bool(step.truncated[0]) for step in steps] == [False, False, True, False]
    assert not any(step.terminated[0] for step in steps) and steps[3].first[0]


def test_mamujoco_names_its_observations():
    env = make_env("mamujoco/HalfCheetah-2x3", 1)
    names = env.obs_names()
    assert [len(row) for row in names] == list(env.spec.obs_widths)
    assert names[0][:2] == ["qpos bfoot", "qvel bfoot"] and names[1][:2] == ["qpos ffoot", "qvel ffoot"]
    robot, obs = env._robots[0].unwrapped, env.reset().obs
    for agent in range(2):
        for column, name in enumerate(names[agent]):
            category, joint = name.split()
            assert obs[0, agent, column] == pytest.approx(getattr(robot.data.joint(joint), category)[0], abs=1e-6)


# PettingZoo


def test_an_agent_that_left_sees_nothing_idles_and_earns_nothing():
    env = make_env("pettingzoo/zoo:Relay", 20)
    assert env.spec.obs_widths == env.spec.act_widths == (3, 2) and env.spec.episode_limit == 4
    step, ends = env.reset(0), set()
    for _ in range(30):
        t, luck = step.state[:, 0].astype(int), step.state[:, 1]
        playing = np.stack([~step.done, ~step.done & (t < 2)], axis=1)
        there = np.stack([t >= 0, t <= 2], axis=1)  # the short one still sees where it left
        assert step.obs[there][:, 0] == pytest.approx(np.stack([t + luck, t + luck], axis=1)[there], abs=1e-6)
        assert not step.obs[~there].any()
        assert (step.avail[~playing] == [True, False, False]).all()
        ends |= set(zip(t[step.done], step.terminated[step.done], step.truncated[step.done], strict=True))
        act = 2 - step.avail[..., ::-1].argmax(axis=-1)  # the highest available
        step = env.step(act)
        assert step.rew == pytest.approx(np.where(step.first, 0, (act * playing).sum(axis=1) / 2))
    assert ends == {(4, True, False), (3, False, True)}


def test_what_is_forbidden_may_be_said_beside_the_observations():
    """PettingZoo's masks are in the observations of some games, in the infos of others."""
    within, beside = make_env("pettingzoo/zoo:Relay", 3), make_env("pettingzoo/zoo:Beside", 3)
    steps, forbidden = [within.reset(0), beside.reset(0)], 0
    for _ in range(12):
        one, other = steps
        assert np.array_equal(one.avail, other.avail) and np.array_equal(one.obs, other.obs)
        forbidden += int((~one.avail[..., 1:]).any())
        steps = [env.step(2 - one.avail[..., ::-1].argmax(axis=-1)) for env in (within, beside)]
    assert forbidden


def test_continuous_actions_are_scaled_to_each_agents_bounds():
    env = make_env("pettingzoo/zoo:Push", 1)
    env.reset()
    act = np.array([[[0.5, -1.0], [0.0, 0.9]]], np.float32)  # left 1.5 and 0, right -1; the last is padding
    assert env.step(act).rew == pytest.approx([(1.5 + 0 - 1) / 2])
    assert env.spec.state_dim == 0
