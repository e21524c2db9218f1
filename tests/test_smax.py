"""smax: who won and why it ended is read off the units; observations decode to where the units are."""

import jax.numpy as jnp
import numpy as np
import pytest

from rmiov2.envs import make_env

ROWS = 3


@pytest.fixture(scope="module")
def env():
    return make_env("smax/3m", ROWS)


def fight(step, allies_first=5):
    """Shoot the first enemy in range, else walk towards them (action 1 is east)."""
    shooting = step.avail[..., allies_first:]
    alive = step.avail[..., 1]
    return np.where(shooting.any(-1), allies_first + shooting.argmax(-1), np.where(alive, 1, 4))


def test_battles_end_as_the_units_say(env):
    step, outcomes = env.reset(1), []
    for _ in range(150):
        step = env.step(fight(step))
        for b in np.flatnonzero(step.done):
            units = env.units(b)
            allies, enemies = units.alive[:3].any(), units.alive[3:].any()
            assert step.terminated[b] == (not (allies and enemies))
            assert step.won[b] == (allies and not enemies)
            outcomes.append(bool(step.won[b]))
        dead = ~np.stack([env.units(b).alive[:3] for b in range(ROWS)])
        assert not step.obs[dead].any()
        assert (step.avail[dead] == [False, False, False, False, True, False, False, False]).all()
    assert True in outcomes and False in outcomes


def test_battles_side_by_side_are_battles_of_their_own(env):
    step = env.reset(0)
    for _ in range(3):
        step = env.step(fight(step))
    assert len(np.unique(step.state, axis=0)) == ROWS


def test_the_reward_is_the_share_of_enemy_health_taken_and_one_for_victory(env):
    step = env.reset(2)
    health = np.stack([env.units(b).health[3:].sum() for b in range(ROWS)])
    total = 0.0
    for _ in range(40):
        step = env.step(fight(step))
        now = np.stack([env.units(b).health[3:].sum() for b in range(ROWS)])
        expected = np.where(step.first, 0, (health - now) / 3 + step.won)
        assert step.rew == pytest.approx(expected, abs=1e-5)
        health, total = now, total + step.rew.sum()
    assert total > 0.3


@pytest.mark.parametrize(
    ("time", "allies", "enemies", "expected"),
    [
        (50, 1, 1, (False, False, False)),
        (100, 1, 1, (False, True, False)),
        (100, 1, 0, (True, False, True)),  # decided in the very last step
        (100, 0, 1, (True, False, False)),
        (30, 0, 0, (True, False, False)),  # a draw is not won
    ],
)
def test_time_running_out_truncates_unless_the_battle_is_decided(env, time, allies, enemies, expected):
    env.reset(0)
    alive = jnp.array([[allies] * 3 + [enemies] * 3] * ROWS, bool)
    battle = env._states.state.replace(unit_alive=alive, step=jnp.full(ROWS, time))
    row = env._battles._row(env._states.replace(state=battle), jnp.zeros(ROWS), jnp.zeros(ROWS, bool))
    assert (bool(row.terminated[0]), bool(row.truncated[0]), bool(row.won[0])) == expected


def test_the_state_is_every_living_unit_in_numbers_of_order_one(env):
    step, game, cooling = env.reset(3), env._battles.game, 0.0
    for _ in range(60):
        step = env.step(fight(step))
        rows = step.state[:, : 6 * len(game.own_features)].reshape(ROWS, 6, -1)
        cooldown = np.asarray(env._states.state.unit_weapon_cooldowns) / game.unit_type_weapon_cooldowns[0]
        for b in range(ROWS):
            units = env.units(b)
            expected = np.zeros_like(rows[b])
            expected[:, :4] = np.column_stack([units.health, units.positions / 32, np.maximum(cooldown[b], 0)])
            expected[:, 4] = 1  # a marine
            assert rows[b] == pytest.approx(expected * units.alive[:, None], abs=1e-6)
        assert (step.state[:, -12:] == [0, 0, 0, 1, 1, 1] + [0] * 6).all()  # sides and kinds
        cooling = max(cooling, rows[..., 3].max())
    assert 0.5 < cooling < 1.5


def decoded_equals_truth(env, step):
    """Compare what the observations decode to with the units; gives how many units were seen by others."""
    decoded, others = env.decode_units(step.obs), 0
    sight = np.asarray(env._battles.game.unit_type_sight_ranges)
    for b in range(step.obs.shape[0]):
        units = env.units(b)
        kinds = np.array([env._battles.game.unit_type_shorthands.index(kind) for kind in units.kind])
        for i in range(env.spec.num_agents):
            away = np.linalg.norm(units.positions - units.positions[i], axis=-1)
            visible = units.alive[i] & units.alive & (away < sight[kinds[i]])
            assert np.array_equal(decoded["visible"][b, i], visible)
            assert decoded["positions"][b, i][visible] == pytest.approx(units.positions[visible], abs=1e-4)
            assert decoded["health"][b, i][visible] == pytest.approx(units.health[visible], abs=1e-6)
            others += visible.sum() - units.alive[i]
    return others


def test_observations_decode_to_the_units_in_their_order(env):
    step, others = env.reset(3), 0
    for _ in range(12):
        step = env.step(fight(step))
        others += decoded_equals_truth(env, step)
    assert others > 50


def test_columns_are_named_after_what_they_hold(env):
    step, names = env.reset(3), env.obs_names()
    for _ in range(12):
        step = env.step(fight(step))
    decoded, others = env.decode_units(step.obs), 0
    assert [len(own) for own in names] == list(env.spec.obs_widths)
    for i, own in enumerate(names):
        place = step.obs[:, i][:, [own.index("own position x"), own.index("own position y")]] * env.map_size
        assert place == pytest.approx(decoded["positions"][:, i, i], abs=1e-4)
        for unit, who in enumerate([f"{side} {k}" for side in ("ally", "enemy") for k in (1, 2, 3)]):
            health = step.obs[:, i, own.index(f"{'own' if unit == i else who} health")]
            assert np.array_equal(health, decoded["health"][:, i, unit])
            others += (health[decoded["visible"][:, i, unit]] < 1).sum() * (unit != i)
    assert others > 5


def test_decoding_takes_any_leading_axes(env):
    step = env.reset(3)
    one, many = env.decode_units(step.obs[1]), env.decode_units(np.stack([step.obs, step.obs]))
    assert np.array_equal(many["positions"][1, 1], one["positions"])
    assert many["visible"].shape == (2, ROWS, 3, 6)


def test_corridor_is_six_zealots_against_twenty_four_zerglings():
    env = make_env("smax/corridor", 1)
    step = env.reset(0)
    assert env.spec.num_agents == 6 and env.spec.act_dim == 5 + 24 and env.spec.episode_limit == 200
    assert env.units(0).kind == ("Z",) * 6 + ("z",) * 24
    assert decoded_equals_truth(env, step) > 0
