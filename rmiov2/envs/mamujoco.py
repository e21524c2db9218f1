"""mamujoco/ROBOT-FACTORS: one robot, its joints shared out among agents; the one module that knows MuJoCo.

Source: MaMuJoCo of gymnasium-robotics (Peng et al. 2021, arXiv 2003.06709), on Gymnasium's robots v5. Each agent
sees its own joints and those next to them (agent_obsk = 1). With agent_obsk = None every agent would see everything:
a lost observation could be copied from any teammate, and losing one would be no loss.
"""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium_robotics.envs.multiagent_mujoco import many_segment_ant, many_segment_swimmer
from gymnasium_robotics.envs.multiagent_mujoco.mujoco_multi import MultiAgentMujocoEnv

from rmiov2.envs.base import Adapter, refuse_unknown
from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Step, UserError

DEPTH = 1  # agent_obsk: how many joints away an agent sees

# Robot to the factorisations that gymnasium-robotics knows. CoupledHalfCheetah is left out: it fails on MuJoCo 4.
FACTORS = {
    "HalfCheetah": ("2x3", "6x1"),
    "Ant": ("4x2", "2x4", "2x4d"),
    "Hopper": ("3x1",),
    "Walker2d": ("2x3",),
    "Swimmer": ("2x1",),
    "Humanoid": ("9|8",),
    "HumanoidStandup": ("9|8",),
    "Reacher": ("2x1",),
    "Pusher": ("3p",),
}
SEGMENTED = {  # any AGENTSxSEGMENTS; the file of the robot is made for it
    "ManySegmentSwimmer": ("Swimmer-v5", many_segment_swimmer.gen_asset),
    "ManySegmentAnt": ("Ant-v5", many_segment_ant.gen_asset),
}
# Here the agents' observations are not entries of the robot's own (not clipped alike, or computed): they are asked for.
NOT_SLICES = ("Walker2d", "Reacher", "Pusher", "ManySegmentAnt")


def _log_warning(message: str) -> None:
    # Gymnasium's own robot files use what MuJoCo 4 calls deprecated: nothing that the user could mend.
    level = logging.DEBUG if "deprecated" in message else logging.WARNING
    logging.getLogger(__name__).log(level, "MuJoCo: %s", message.strip())


mujoco.set_mju_user_warning(_log_warning)  # otherwise MuJoCo writes MUJOCO_LOG.TXT wherever the program was started


class MaMujoco(Adapter):
    """num_envs robots, stepped one after the other.

    The state is the robot's whole observation (positions and velocities, for some robots also forces). The reward is
    the robot's. Falling over terminates, the step limit truncates. Actions in [-1, 1] are scaled to the true bounds.
    Nothing is won. Raises UserError for an unknown robot or factorisation.
    """

    def __init__(self, map_name: str, num_envs: int, seed: int = 0) -> None:
        robot, _, factors = map_name.partition("-")
        _refuse_unknown_robot(robot, factors)
        self._teams = [_team(robot, factors) for _ in range(num_envs)]
        self._robots = [team.single_agent_env for team in self._teams]
        self._sliced = robot not in NOT_SLICES
        super().__init__(self._describe(map_name), num_envs, seed)
        self._index = _observation_index(self._teams[0], self.spec) if self._sliced else None
        self._joint_agent, self._joint_column = _joints(self._teams[0])
        space = self._robots[0].action_space
        self._centre, self._half = (space.high + space.low) / 2, (space.high - space.low) / 2

    def _describe(self, map_name: str) -> EnvSpec:
        team, robot = self._teams[0], self._robots[0]
        obs_widths = tuple(space.shape[0] for space in team.observation_spaces.values())
        act_widths = tuple(space.shape[0] for space in team.action_spaces.values())
        return EnvSpec(
            name=f"mamujoco/{map_name}", num_agents=len(obs_widths), obs_dim=max(obs_widths), obs_widths=obs_widths,
            act_dim=max(act_widths), act_widths=act_widths, discrete=False, state_dim=robot.observation_space.shape[0],
            episode_limit=robot.spec.max_episode_steps, measure="step_return",
        )  # fmt: skip

    def _begin(self, seed: int) -> Step:
        self._state = np.stack([robot.reset(seed=derive(seed, b))[0] for b, robot in enumerate(self._robots)])
        zeros = np.zeros(self.num_envs, bool)
        return self._step(np.zeros(self.num_envs), zeros, zeros.copy(), ~zeros)

    def _play(self, act: Actions, restart: Bools) -> Step:
        rew = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        joints = np.clip(act[:, self._joint_agent, self._joint_column].astype(np.float64), -1, 1)
        torques = self._centre + joints * self._half
        for b, robot in enumerate(self._robots):
            if restart[b]:
                self._state[b] = robot.reset()[0]
            else:
                self._state[b], rew[b], terminated[b], truncated[b], _ = robot.step(torques[b])
        return self._step(rew, terminated, truncated & ~terminated, restart.copy())

    def _step(self, rew: Any, terminated: Bools, truncated: Bools, first: Bools) -> Step:
        return Step(
            obs=self._observe(),
            seen=np.ones((self.num_envs, self.spec.num_agents), bool),
            avail=None,
            state=self._state.astype(np.float32),
            rew=rew.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            won=np.zeros(self.num_envs, bool),
            first=first,
        )

    def _observe(self) -> Floats:
        if self._index is not None:
            padded = np.concatenate([self._state, np.zeros((self.num_envs, 1))], axis=1)
            return padded[:, self._index].astype(np.float32)
        obs = np.zeros((self.num_envs, self.spec.num_agents, self.spec.obs_dim), np.float32)
        for b, team in enumerate(self._teams):
            for i, own in enumerate(team._get_obs().values()):
                obs[b, i, : len(own)] = own
        return obs

    def obs_names(self) -> list[list[str]]:
        """Each agent's observation columns by name (N lists of its true width), for instance "qvel bfoot"."""
        if self._index is None:
            return [[f"obs {k}" for k in range(width)] for width in self.spec.obs_widths]
        names = np.array(_state_names(self._robots[0].unwrapped))
        return [names[row[:width]].tolist() for row, width in zip(self._index, self.spec.obs_widths, strict=True)]

    def close(self) -> None:
        """Free the simulators."""
        for robot in self._robots:
            robot.close()


def _refuse_unknown_robot(robot: str, factors: str) -> None:
    refuse_unknown("mamujoco robot", robot, [*FACTORS, *SEGMENTED])
    if robot in FACTORS:
        if factors not in FACTORS[robot]:
            known = ", ".join(f"{robot}-{known}" for known in FACTORS[robot])
            raise UserError(f"mamujoco: got factorisation {factors!r} of {robot}, expected one of {known}")
    elif not re.fullmatch(r"([2-9]|[1-9]\d+)x[1-9]\d*", factors):
        raise UserError(f"mamujoco: got factorisation {factors!r} of {robot}, expected AGENTSxSEGMENTS, as {robot}-4x2")


def _team(robot: str, factors: str) -> MultiAgentMujocoEnv:
    return MultiAgentMujocoEnv(robot, factors, agent_obsk=DEPTH, gym_env=_robot(robot, factors))


def _robot(robot: str, factors: str) -> gymnasium.Env[Any, Any]:
    if robot in FACTORS:
        return gymnasium.make(f"{robot}-v5", disable_env_checker=True)
    name, write = SEGMENTED[robot]
    agents, segments = map(int, factors.split("x"))
    # Upstream writes this file into its own package folder, where processes would delete each other's.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "robot.xml")
        write(n_segs=agents * segments, asset_path=str(path))
        return gymnasium.make(name, xml_file=str(path), disable_env_checker=True)


def _observation_index(team: MultiAgentMujocoEnv, spec: EnvSpec) -> Any:
    """(N, O): the entry of the robot's state in each column; S, one beyond it, in the padding."""
    index = np.full((spec.num_agents, spec.obs_dim), spec.state_dim)
    for i, entries in enumerate(team.observation_factorization.values()):
        index[i, : len(entries)] = entries
    return index


def _joints(team: MultiAgentMujocoEnv) -> tuple[Any, Any]:
    """For each actuator of the robot: the agent that drives it, and the column of that agent's action."""
    owners = {
        joint.act_ids: (i, column)
        for i, joints in enumerate(team.agent_action_partitions)
        for column, joint in enumerate(joints)
    }
    agents, columns = zip(*(owners[actuator] for actuator in range(len(owners))), strict=True)
    return np.array(agents), np.array(columns)


def _state_names(robot: Any) -> list[str]:
    """The names of the entries of a robot's own observation."""
    structure = robot.observation_structure
    model, names = robot.model, []
    for category, width in (("qpos", model.nq), ("qvel", model.nv)):
        first = model.jnt_qposadr if category == "qpos" else model.jnt_dofadr
        joints = np.searchsorted(first, np.arange(width), side="right") - 1
        suffixes = [f" {k}" if k else "" for k in np.arange(width) - first[joints]]
        entries = [f"{category} {model.joint(j).name}{end}" for j, end in zip(joints, suffixes, strict=True)]
        names += entries[structure.get(f"skipped_{category}", 0) :]
    for category in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext"):
        names += [f"{category} {k}" for k in range(structure.get(category, 0))]
    return names
