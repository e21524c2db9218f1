"""StarCraft2Env played in a process of its own: old generated protobuf code loads only where the variable is set.

Functions return plain numbers, for a ProcessPoolExecutor; import this where the public `smac` package is.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import tempfile
import time
from typing import Any

import numpy as np
import psutil
import websocket
from absl import flags
from pysc2.lib import protocol
from s2clientprotocol import sc2api_pb2
from smac.env import StarCraft2Env

from .modes import VARIABLE


def make(game: str, map_name: str, seed: int = 0, timeout_s: int = 20, modes: Any = ()) -> StarCraft2Env:
    """An environment on the stand-in installed in `game`, whose launches behave as `modes` (see modes.py) say."""
    os.environ["SC2PATH"], os.environ[VARIABLE] = game, json.dumps(modes)
    tempfile.tempdir, flags.FLAGS.sc2_timeout = game, timeout_s
    return StarCraft2Env(map_name, seed=seed)


def legal(env: StarCraft2Env, agent: int) -> list[int]:
    return [action for action, allowed in enumerate(env.get_avail_agent_actions(agent)) if allowed]


def stroll(env: StarCraft2Env) -> list[int]:
    """Any legal actions, the same ones in the same battle."""
    chance = random.Random(env._total_steps)
    return [chance.choice(legal(env, agent)) for agent in range(env.n_agents)]


def focus(env: StarCraft2Env) -> list[int]:
    """Wait for the enemy and shoot at the weakest in reach; medivacs tend the weakest of ours."""
    actions = []
    for agent in range(env.n_agents):
        allowed = legal(env, agent)
        heals = env.map_type == "MMM" and env.agents[agent].unit_type == env.medivac_id
        others = env.agents if heals else env.enemies
        targets = [action for action in allowed if action >= env.n_actions_no_attack]
        strength = {action: others[action - env.n_actions_no_attack] for action in targets}
        weakest = min(targets, key=lambda a: (strength[a].health + strength[a].shield, a), default=None)
        actions.append(allowed[0] if weakest is None else weakest)
    return actions


POLICIES = {"stroll": stroll, "focus": focus}


def episodes(game: str, map_name: str, count: int, policy: str, seed: int = 0) -> list[dict[str, Any]]:
    """Whole episodes: sums, ends and a digest of every observation, state, mask and reward in them."""
    env = make(game, map_name, seed)
    told = []
    for _ in range(count):
        obs, state = env.reset()
        digest, total, done, info = hashlib.sha256(), 0.0, False, {}
        shapes = [env.n_agents, env.n_enemies, env.n_actions, len(obs[0]), len(state), env.episode_limit]
        while not done:
            avail = np.array(env.get_avail_actions())
            assert avail.any(axis=1).all() and np.abs(obs).max() <= 1
            alive = [env.agents[agent].health > 0 for agent in range(env.n_agents)]
            assert (avail[:, 0] == np.logical_not(alive)).all()
            reward, done, info = env.step(POLICIES[policy](env))
            obs, state = env.get_obs(), env.get_state()
            for part in (obs, state, avail, reward):
                digest.update(np.asarray(part, np.float64).tobytes())
            total += reward
        told.append(
            {"digest": digest.hexdigest(), "return": total, "steps": env._episode_steps, "shapes": shapes} | info
        )
    env.close()
    return told


def trouble(game: str, count: int = 1, timeout_s: int = 20, modes: Any = ()) -> dict[str, Any]:
    """So many episodes of 3m with modes that spoil them: where it ended, what was returned or raised, how long."""
    env = make(game, "3m", timeout_s=timeout_s, modes=modes)
    told: dict[str, Any] = {"raised": None, "answer": None, "steps": 0}
    try:
        for episode in range(count):
            told["where"], start = "reset", time.monotonic()
            obs, _ = env.reset()
            if not episode:
                told["launching"] = time.monotonic() - start
            told["standing"], done = sum(any(row) for row in obs), False
            while not done:
                told["where"], start = "step", time.monotonic()
                told["answer"] = env.step(focus(env))
                done = told["answer"][1]
                told["steps"] += 1
    except Exception as error:  # noqa: BLE001 the very thing that is looked at
        told["raised"] = type(error).__name__
    told["seconds"] = time.monotonic() - start
    told |= {"restarts": env.force_restarts, "max_reward": env.max_reward, "battles": env.battles_game}
    told["memory"] = memory(env)
    env.close()
    return told


def memory(env: StarCraft2Env) -> float:
    """MiB that the game's process holds, 0 where there is none."""
    running = env._sc2_proc is not None and env._sc2_proc.running
    return psutil.Process(env._sc2_proc.pid).memory_info().rss / 2**20 if running else 0.0


def tour(game: str) -> dict[str, Any]:
    """What SMAC itself does not ask: the build, the data, a new start, a replay, what is not known or out of place."""
    env = make(game, "corridor")
    env.reset()
    env.step([1] * env.n_agents)
    control, told = env._controller, {"pathing": env.pathing_grid.tolist()}
    told["build"] = control.ping().base_build
    told["units"] = {unit.unit_id: unit.name for unit in control.data_raw().units}
    told["loop"] = control.observe().observation.game_loop
    control.restart()
    told["loop again"] = control.observe().observation.game_loop
    told["replay"] = control.save_replay()
    for ask in ({"leave_game": sc2api_pb2.RequestLeaveGame()}, {"join_game": sc2api_pb2.RequestJoinGame()}):
        try:
            control._client.send(**ask)
        except protocol.ProtocolError as error:
            told["refused"] = [*told.get("refused", []), str(error).splitlines()[-1]]
    try:
        websocket.create_connection(f"ws://127.0.0.1:{env._sc2_proc.port}/elsewhere")
    except websocket.WebSocketBadStatusException as error:
        told["elsewhere"] = error.status_code
    env.close()
    return told


def abandon(game: str) -> None:
    """End this process in the middle of a battle, closing nothing."""
    env = make(game, "3m")
    env.reset()
    os.kill(os.getpid(), signal.SIGKILL)
