"""A double of StarCraft2Env's interface, for where the public package is absent; it behaves as that was seen to.

Three soldiers against two: an attack takes 1 of an enemy's 10, every fifth or seventh step an ally falls, 20 steps. It
launches no program: its own process counts as its game, and breaks in the ways of starcraft.modes. Nothing
made with it is reported.
"""

import os
import time
from pathlib import Path

import numpy as np
from starcraft.install import record
from starcraft.modes import Moments, read

AGENTS, ENEMIES, ACTIONS, HEALTH, LIMIT = 3, 2, 8, 10, 20


class Source:
    """See rmiov2.envs.smac.battle.Source."""

    def __init__(self, map_name, patience):
        self.facts, self.note = {"build": 0, "difficulty": "7", "step_mul": 8}, "this is a double"

    def make(self, seed):
        return Double(seed)

    def settle(self, env):
        pass  # nobody comes late


class GameBroke(Exception):
    """As pysc2's ProtocolError and ConnectionError."""


class Double:
    """The methods and attributes that are used, with the pitfalls of the real one."""

    def __init__(self, seed):
        self.seed, self.episode_limit = seed, LIMIT
        self.battles_won = self.battles_game = self.timeouts = self.force_restarts = 0
        self.max_reward, self._episode_count, self.moments = 200.0, 0, None

    def get_env_info(self):
        width = 2 + ENEMIES + 1
        return {
            "state_shape": AGENTS + ENEMIES + 1 + AGENTS * ACTIONS, "obs_shape": width, "n_actions": ACTIONS,
            "n_agents": AGENTS, "episode_limit": LIMIT, "agent_features": [], "enemy_features": [],
        }  # fmt: skip

    def _launch(self):
        modes = read(record(Path(os.environ["SC2PATH"]), 0))
        if modes.port_taken:
            raise ConnectionError("Failed to connect to the SC2 websocket. Is it up?")
        time.sleep(modes.slow_start_s)
        self.moments, self.step_ms = Moments(modes), modes.step_ms
        self._ask("create_game")
        self.rng = np.random.default_rng(self.seed)

    def _ask(self, request):
        failure = self.moments.failure(request)
        if failure == "hang":
            time.sleep(3600)
        if failure:
            raise GameBroke(failure)

    def reset(self):
        if self._episode_count == 0:
            self._launch()
            self.max_reward += ENEMIES * HEALTH  # once more with every reset before a battle has ended
        else:
            try:
                self._ask("debug")
            except GameBroke:
                self._restarted()
                return  # what is seen is the old battle
        self.t, self.last_action = 0, np.zeros((AGENTS, ACTIONS))
        self.allies, self.enemies = np.ones(AGENTS), np.full(ENEMIES, HEALTH)
        self.luck = self.rng.random()

    def _restarted(self):
        self.force_restarts += 1
        self._launch()

    def step(self, actions):
        avail = self.get_avail_actions()
        assert all(avail[i][a] for i, a in enumerate(actions))
        self.last_action = np.eye(ACTIONS)[np.asarray(actions)]
        time.sleep(self.step_ms / 1000)
        try:
            self._ask("step")
        except GameBroke:
            self._restarted()
            return 0, True, {}
        before = self.enemies.sum()
        for target in (a - 6 for a in actions if a >= 6):
            self.enemies[target] = max(0, self.enemies[target] - 1)
        self.t += 1
        if self.t % (5 if self.luck < 0.5 else 7) == 0 and self.allies.any():
            self.allies[int(np.flatnonzero(self.allies)[int(self.luck * self.allies.sum())])] = 0
        return self._outcome(float(before - self.enemies.sum()))

    def _outcome(self, reward):
        beaten, fallen = not self.enemies.any(), not self.allies.any()
        info = {"battle_won": beaten and not fallen, "dead_allies": 0, "dead_enemies": 0}
        over = beaten or fallen or self.t >= LIMIT
        if info["battle_won"]:
            reward += 200
            self.battles_won += 1
        self.timeouts += int(over and not (beaten or fallen))
        self._episode_count += int(over)
        self.battles_game += int(over)
        return reward * 20 / self.max_reward, over, info

    def get_avail_actions(self):
        attack = [int(health > 0) for health in self.enemies]
        return [[0, 1, 1, 0, 0, 1, *attack] if alive else [1] + [0] * (ACTIONS - 1) for alive in self.allies]

    def get_obs(self):
        row = np.array([1, self.luck, *self.enemies / HEALTH, self.t / LIMIT], np.float32)
        return [row * alive for alive in self.allies]

    def get_state(self):
        return np.concatenate([self.allies, self.enemies / HEALTH, [self.luck], self.last_action.ravel()]).astype("f4")

    def close(self):
        pass
