"""smac/MAP says what StarCraft2Env says, value by value, and asks of it only what it can take."""

import numpy as np
import pytest
from smac_worlds import DOUBLE, WORLDS, world
from starcraft.needs import NEEDS_SMAC

from rmiov2.envs.check import check_env
from rmiov2.envs.registry import SMAC_MAPS
from rmiov2.envs.smac import game as games
from rmiov2.envs.smac.adapter import SOURCE
from rmiov2.seeding import derive
from rmiov2.types import UserError

MAPS = ("2s3z", "3s_vs_5z", "2s_vs_1sc", "1c3s5z", "corridor")

# algorithms.md 6.1: agents, actions, observation, state, limit
TABLE = {
    "2s3z": (5, 11, 80, 120, 120),
    "2s_vs_1sc": (2, 7, 17, 27, 300),
    "3s_vs_3z": (3, 9, 36, 54, 150),
    "3s_vs_4z": (3, 10, 42, 61, 200),
    "3s_vs_5z": (3, 11, 48, 68, 250),
    "1c3s5z": (9, 15, 162, 270, 180),
    "corridor": (6, 30, 156, 282, 400),
    "8m": (8, 14, 80, 168, 120),
    "3m": (3, 9, 30, 48, 60),
    "MMM": (10, 16, 160, 290, 150),
    "so_many_baneling": (7, 38, 202, 397, 100),
    "2c_vs_64zg": (2, 70, 332, 342, 400),
}


@pytest.fixture(params=WORLDS)
def here(request, tmp_path, monkeypatch):
    made = world(request.param, tmp_path, monkeypatch)
    yield made
    assert made.nothing_left()


@pytest.fixture
def package(tmp_path, monkeypatch):
    made = world(SOURCE, tmp_path, monkeypatch)
    yield made
    assert made.nothing_left()


def idle(step):
    """No-op for the dead, stop for the living."""
    return np.where(step.avail[..., 0], 0, 1)


def fight(step):
    """The first enemy in range, else east, else stop."""
    attacks = step.avail[..., 6:]
    otherwise = np.where(step.avail[..., 4], 4, idle(step))
    return np.where(attacks.any(-1), 6 + attacks.argmax(-1), otherwise)


def test_the_contract_is_kept(here):
    env = here.make(num_envs=2)
    lines = check_env(env)
    env.close()
    env.close()
    assert len(lines) == 7 and "unchecked" not in " ".join(lines)


def same_as_reference(here, folder, map_name, battles):
    """Play what the reference played, in row 1 of 2, and compare every number; gives how the battles ended."""
    seed = derive(3, 1) % 2**31
    expected = here.reference(map_name, seed, battles, folder / "reference.npz")
    env, ends = here.make(num_envs=2, map_name=map_name), []
    step = env.reset(3)
    for k, act in enumerate(expected["act"]):
        if k:
            both = idle(step)
            both[1] = np.maximum(act, 0)
            step = env.step(both)
        assert step.first[1] == (act[0] < 0)
        assert np.array_equal(step.obs[1], expected["obs"][k].astype(np.float32))
        assert np.array_equal(step.state[1], expected["state"][k].astype(np.float32))
        assert np.array_equal(step.avail[1], expected["avail"][k].astype(bool))
        assert step.rew[1] == np.float32(expected["rew"][k])
        assert step.done[1] == expected["over"][k] and step.won[1] == expected["won"][k]
        assert step.truncated[1] == expected["timeout"][k]
        if step.done[1]:
            ends.append("won" if step.won[1] else "timeout" if step.truncated[1] else "lost")
    env.close()
    return ends


def test_every_value_is_that_of_starcraft2env(here, tmp_path):
    ends = same_as_reference(here, tmp_path, "3m", 6)
    assert len(ends) == 6 and {"won", "lost"} <= set(ends)


@pytest.mark.long
@NEEDS_SMAC
@pytest.mark.parametrize("map_name", MAPS)
def test_every_value_is_that_of_starcraft2env_over_100_battles(package, tmp_path, map_name):
    ends = same_as_reference(package, tmp_path, map_name, 100)
    print(map_name, {end: ends.count(end) for end in set(ends)})
    assert len(ends) == 100


@NEEDS_SMAC
def test_shapes_are_those_of_the_table_and_the_maps_those_of_the_package(package):
    for map_name in ("2s3z", "corridor", "MMM"):
        env = package.make(1, map_name)
        spec = env.spec
        env.close()
        assert (spec.num_agents, spec.act_dim, spec.obs_dim, spec.state_dim, spec.episode_limit) == TABLE[map_name]
    with pytest.raises(UserError, match="unknown smac map '3z'; did you mean"):
        package.make(1, "3z")


@NEEDS_SMAC
@pytest.mark.long
def test_every_map_of_the_package_has_its_shape(package):
    for map_name in SMAC_MAPS:
        env = package.make(1, map_name)
        spec = env.spec
        env.close()
        assert f"; {spec.episode_limit} steps" in SMAC_MAPS[map_name]
        got = (spec.num_agents, spec.act_dim, spec.obs_dim, spec.state_dim, spec.episode_limit)
        assert got == TABLE.get(map_name, got)


def test_a_game_is_launched_once_and_never_reset_before_its_battle_has_ended(here):
    env = here.make(num_envs=1)
    first = env.reset(1)
    again = env.restart(2)
    assert np.array_equal(first.obs, again.obs) and again.first.all()  # nobody has acted in it
    env.step(fight(again))
    assert env.restart(3).first.all() and here.launches == 1  # in the middle of its first battle
    total, step = 0.0, env.restart(4)
    while not step.done[0]:
        step = env.step(fight(step))
        total += float(step.rew[0])
    env.close()
    assert here.launches == 1
    assert not step.won[0] or total >= 20 * (1 - 1e-6)  # a second reset would have scaled it down


@NEEDS_SMAC
@pytest.mark.parametrize("late", [0, 2])
def test_enemies_that_come_late_do_not_change_the_scale_of_rewards(package, late):
    package.modes(late_spawn=late)
    env = package.make(num_envs=1)
    step, hurt = env.reset(1), 0
    while not step.done[0]:
        before = step.state[0, 12:21:3]  # of the enemies' health, after four numbers of each of three allies
        step = env.step(fight(step))
        after = step.state[0, 12:21:3]
        damage = 45 * (before - after).sum() + 10 * ((before > 0) & (after == 0)).sum() + 200 * step.won[0]
        assert step.rew[0] == pytest.approx(20 * damage / (3 * 45 + 3 * 10 + 200), abs=1e-4)
        hurt += damage
    env.close()
    assert hurt > 0


def test_time_running_out_is_a_truncation(here):
    env = here.make(num_envs=1, map_name="2s_vs_1sc")  # whose enemy does not move
    step, truncated = env.reset(1), 0
    while not truncated:
        steps = 0
        while not step.done[0]:
            step, steps = env.step(idle(step)), steps + 1
        timed_out = steps == env.spec.episode_limit
        assert step.truncated[0] == timed_out and step.terminated[0] != timed_out and not step.won[0]
        truncated += int(timed_out)
        step = env.step(idle(step))
    env.close()


def test_the_dead_see_nothing_and_can_do_nothing(here):
    env = here.make(num_envs=1)
    step, dead = env.reset(1), 0
    for _ in range(60):
        gone = step.avail[..., 0]
        assert not step.obs[gone].any() and (step.avail[gone].sum(-1) == 1).all()
        assert step.avail[~gone][:, 1].all()
        dead += int(gone.sum())
        step = env.step(idle(step))
    env.close()
    assert dead


def test_a_game_that_has_played_long_enough_is_renewed(here, monkeypatch):
    monkeypatch.setattr(games, "RENEWED_AFTER", 2)
    env = here.make(num_envs=1)
    step, battles = env.reset(1), 0
    while battles < 4:
        step = env.step(fight(step))
        battles += int(step.done[0])
    env.close()
    assert here.launches == 2 and not env.lost_episodes


def test_a_renewed_game_does_not_play_its_battles_again(tmp_path, monkeypatch):
    """In the double, each battle is as its luck, drawn from the seed that its game was launched with."""
    monkeypatch.setattr(games, "RENEWED_AFTER", 1)
    here = world(DOUBLE, tmp_path, monkeypatch)
    env = here.make(num_envs=1)
    step, luck = env.reset(1), []
    while len(luck) < 3:
        luck += step.obs[step.first, 0, 1].tolist()
        step = env.step(fight(step))
    env.close()
    assert len(set(luck)) == here.launches == 3 and here.nothing_left()


def test_an_illegal_action_never_reaches_the_game(here):
    env = here.make(num_envs=1)
    step = env.reset(1)
    with pytest.raises(UserError, match="is not available there"):
        env.step(np.zeros((1, env.spec.num_agents), int))
    legal = env.step(idle(step))
    env.close()
    assert not legal.lost.any() and not legal.first.any()
