"""smax/MAP: the SMAC-like battles of JaxMARL, compiled; the one module that knows jax.

Source of the rules: jaxmarl 0.2.0, environments/smax (Rutherford et al. 2023, arXiv 2311.10090), allies against its
heuristic enemy. Its `step` resets by itself and hides the last observation, so `step_env` is used. torch has the
accelerator, so jax stays on the CPU unless JAX_PLATFORMS says otherwise. Compiled battles are kept in the user's cache
folder, one per machine, unless JAX_COMPILATION_CACHE_DIR says otherwise.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "rmiov2", "jax", platform.node())),
)

import jax
import jax.numpy as jnp
import numpy as np

from rmiov2.envs.bare_packages import bare
from rmiov2.envs.base import Adapter, refuse_unknown
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Step

with bare("jaxmarl", "jaxmarl.environments"):
    from jaxmarl.environments.smax import smax_env
    from jaxmarl.environments.smax.heuristic_enemy_smax_env import HeuristicEnemySMAX

ZEALOT, ZERGLING = 3, 4
smax_env.register_scenario(  # type: ignore[no-untyped-call]
    "corridor",
    smax_env.Scenario(jnp.array([ZEALOT] * 6 + [ZERGLING] * 24, dtype=jnp.uint8), 6, 24, False, False),
)

STEP_LIMIT = 100  # JaxMARL's, for its own maps
LONGER = {"corridor": 200}
STOP = 4


class Row(NamedTuple):
    """What one compiled call brings back, with a leading B each."""

    obs: jax.Array  # (B, N, O)
    avail: jax.Array  # (B, N, A)
    state: jax.Array  # (B, S)
    rew: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    won: jax.Array


@dataclass(frozen=True)
class Units:
    """Every unit of one battle, allies first: positions (U, 2) in map coordinates, health (U,) from 0 to 1,
    team (U,) 0 for allies, alive (U,), kind (U,) the short name of its type."""

    positions: Floats
    health: Floats
    team: np.ndarray[Any, np.dtype[np.int64]]
    alive: Bools
    kind: tuple[str, ...]


class Battles:
    """The compiled functions of one map; shared by all its environments, so that each batch size compiles once."""

    def __init__(self, map_name: str) -> None:
        self.limit = LONGER.get(map_name, STEP_LIMIT)
        scenario = smax_env.MAP_NAME_TO_SCENARIO[map_name]
        self.game = HeuristicEnemySMAX(scenario=scenario, max_steps=self.limit)  # type: ignore[no-untyped-call]
        self.begin = jax.jit(self._begin, static_argnums=1)
        self.play = jax.jit(self._play)

    def _begin(self, key: jax.Array, num_envs: int) -> tuple[jax.Array, Any, Row]:
        """Keys and states of new battles, and their first row; row b's battles do not depend on how many there are."""
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_envs))
        keys, reset_keys = _split(keys)
        # Strong types, as `play` gives them back: otherwise its second call would compile anew.
        states = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), jax.vmap(self.game.reset)(reset_keys)[1])
        return keys, states, self._row(states, jnp.zeros(num_envs), jnp.ones(num_envs, bool))

    def _play(self, keys: jax.Array, states: Any, act: jax.Array, restart: jax.Array) -> tuple[jax.Array, Any, Row]:
        """The next keys, states and row, everything with a leading B; restart (B,) begins new battles there."""
        keys, step_keys = _split(keys)
        actions = {agent: act[:, i] for i, agent in enumerate(self.game.agents)}
        _, played, rewards, _, _ = jax.vmap(self.game.step_env)(step_keys, states, actions)
        states = jax.lax.cond(restart.any(), self._replace, lambda s, *_: s, played, restart, step_keys)
        rew = jnp.where(restart, 0.0, rewards[self.game.agents[0]])
        return keys, states, self._row(states, rew, restart)

    def _replace(self, played: Any, restart: jax.Array, keys: jax.Array) -> Any:
        fresh = jax.vmap(self.game.reset)(keys)[1]
        return jax.tree.map(
            lambda new, old: jnp.where(restart.reshape(-1, *[1] * (old.ndim - 1)), new, old), fresh, played
        )

    def _row(self, states: Any, rew: jax.Array, first: jax.Array) -> Row:
        allies = self.game.num_allies
        obs = jax.vmap(self.game.get_obs)(states)
        avail = jax.vmap(self.game.get_avail_actions)(states)
        lost = ~states.state.unit_alive[:, :allies].any(axis=1)
        beaten = ~states.state.unit_alive[:, allies:].any(axis=1)
        decided = lost | beaten
        return Row(
            obs=jnp.stack([obs[agent] for agent in self.game.agents], axis=1),
            avail=jnp.stack([avail[agent] for agent in self.game.agents], axis=1).astype(bool),
            state=jax.vmap(self._state)(states),
            rew=rew,
            terminated=decided & ~first,
            truncated=(states.state.step >= self.limit) & ~decided & ~first,
            won=beaten & ~lost & ~first,
        )

    def _state(self, battle: Any) -> jax.Array:
        """JaxMARL's world_state in SMAC's units: its positions reach 32, and its cooldowns fall without end."""
        game, kinds = self.game, battle.state.unit_types
        units, rest = jnp.split(game.get_world_state(battle), [len(kinds) * len(game.own_features)])
        units = units.reshape(len(kinds), -1)
        size = jnp.array([game.map_width, game.map_height])
        cooldown = units[:, 3] / game.unit_type_weapon_cooldowns[kinds]
        units = units.at[:, 1:3].divide(size).at[:, 3].set(jnp.maximum(cooldown, 0))
        return jnp.concatenate([units.reshape(-1), rest])


@cache
def battles(map_name: str) -> Battles:
    """The compiled functions of a map; raises UserError for one that is not there."""
    refuse_unknown("smax map", map_name, smax_env.MAP_NAME_TO_SCENARIO)
    return Battles(map_name)


class Smax(Adapter):
    """num_envs battles on one map; the state is JaxMARL's world_state, the reward the allies' team reward.

    In the state, positions are shares of the map and cooldowns of the unit's own, never below zero. Reward: the
    share of enemy health taken in the step, and 1 for the victory. Time running out is a truncation unless the battle
    was decided in that very step; when the last of both sides fall together it is not won. A dead agent sees zeros and
    can only stop. Raises UserError for an unknown map.
    """

    def __init__(self, map_name: str, num_envs: int, seed: int = 0) -> None:
        self._battles = battles(map_name)
        game = self._battles.game
        n, width, actions = game.num_allies, game.obs_size, game.num_ally_actions
        spec = EnvSpec(
            name=f"smax/{map_name}", num_agents=n, obs_dim=width, obs_widths=(width,) * n, act_dim=actions,
            act_widths=(actions,) * n, discrete=True, state_dim=game.state_size, episode_limit=self._battles.limit,
            measure="win_rate", idle_actions=(STOP,),
        )  # fmt: skip
        super().__init__(spec, num_envs, seed)
        self.map_size = (float(game.map_width), float(game.map_height))

    def _begin(self, seed: int) -> Step:
        key = jax.random.fold_in(jax.random.PRNGKey(seed & 0xFFFFFFFF), (seed >> 32) & 0xFFFFFFFF)
        self._keys, self._states, row = self._battles.begin(key, self.num_envs)
        return self._step(row, np.ones(self.num_envs, bool))

    def _play(self, act: Actions, restart: Bools) -> Step:
        self._keys, self._states, row = self._battles.play(self._keys, self._states, act.astype(np.int32), restart)
        return self._step(row, restart)

    def _step(self, row: Row, first: Bools) -> Step:
        # jax hands out read-only memory; the copies are small, and the reader may write into them.
        values = {name: np.array(value) for name, value in jax.device_get(row)._asdict().items()}
        return Step(seen=np.ones((self.num_envs, self.spec.num_agents), bool), first=first.copy(), **values)

    def units(self, row: int) -> Units:
        """Where every unit of one battle stands now; raises AttributeError before the first reset."""
        state = jax.device_get(jax.tree.map(lambda leaf: leaf[row], self._states.state))
        game = self._battles.game
        return Units(
            positions=np.array(state.unit_positions),
            health=np.array(state.unit_health / np.asarray(game.unit_type_health)[state.unit_types]),
            team=state.unit_teams.astype(np.int64),
            alive=np.array(state.unit_alive),
            kind=tuple(game.unit_type_shorthands[kind] for kind in state.unit_types),
        )

    def decode_units(self, obs: Floats) -> dict[str, Any]:
        """What observations, obs (..., N, O), say about all U units, in the order of `units`.

        positions (..., N, U, 2) in map coordinates, health (..., N, U) from 0 to 1, visible (..., N, U) bool. In a true
        observation, what is not visible lies at its observer's place with health 0. The observer is among the units.
        """
        game = self._battles.game
        own_width, units = len(game.own_features), game.num_allies + game.num_enemies
        own = obs[..., -own_width:]  # health, x, y, cooldown, type bits
        others = obs[..., :-own_width].reshape(*obs.shape[:-1], units - 1, len(game.unit_features))
        place = own[..., 1:3] * np.array(self.map_size, np.float32)
        sight = np.asarray(game.unit_type_sight_ranges)[self._kinds(own[..., 4:])]
        away = place[..., None, :] + others[..., 1:3] * sight[..., None, None]
        bits = _in_unit_order(others[..., -game.unit_type_bits :], own[..., -game.unit_type_bits :])
        health = _in_unit_order(others[..., :1], own[..., :1])[..., 0]
        return {"positions": _in_unit_order(away, place), "health": health, "visible": bits.max(axis=-1) > 0.5}

    def obs_names(self) -> list[list[str]]:
        """Each agent's observation columns by name, for instance "enemy 2 position x"."""
        game = self._battles.game
        units = [f"ally {k + 1}" for k in range(game.num_allies)] + [f"enemy {k + 1}" for k in range(game.num_enemies)]
        others = [[name for name in units if name != units[i]] for i in range(game.num_allies)]
        parts = [[(name, game.unit_features) for name in seen] + [("own", game.own_features)] for seen in others]
        return [[f"{who} {what.replace('_', ' ')}" for who, told in part for what in told] for part in parts]

    def _kinds(self, bits: Floats) -> Any:
        """The agents' unit types (..., N): those of the scenario, or where it draws them, what the agents' bits say."""
        game = self._battles.game
        if game.smacv2_unit_type_generation:
            return bits.argmax(axis=-1)
        return np.broadcast_to(np.asarray(game.scenario[: game.num_allies]), bits.shape[:-1])


def _split(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _in_unit_order(others: Floats, own: Floats) -> Floats:
    """Insert what observer i says of itself (..., N, F) at place i of what it says of the others (..., N, U-1, F)."""
    agents, units = own.shape[-2], others.shape[-2] + 1
    observer, unit = np.arange(agents)[:, None], np.arange(units)[None, :]
    index = np.where(unit == observer, units - 1, unit - (unit > observer))  # the observer itself comes last below
    everything = np.concatenate([others, own[..., None, :]], axis=-2)
    return everything[..., observer, index, :]
