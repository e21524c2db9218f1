"""Small parallel environments of PettingZoo's API, as a user might write them."""

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv

WIDTHS = {"long": 3, "short": 2}  # observation and actions of each agent


class Relay(ParallelEnv):
    """The short agent leaves after 2 steps; the long one after 4, or at step 3 the time is up for who drew so.

    Action t % width is forbidden at step t, unless it is 0. An agent earns its action's number.
    """

    metadata = {"name": "relay"}
    max_steps = 4

    def __init__(self):
        self.possible_agents = list(WIDTHS)
        self.rng = np.random.default_rng()

    def observation_space(self, agent):
        return Dict({"observation": Box(-1, 9, (WIDTHS[agent],)), "action_mask": Box(0, 1, (WIDTHS[agent],), np.int8)})

    def action_space(self, agent):
        return Discrete(WIDTHS[agent])

    def look(self):
        def sight(width):
            mask = [a == 0 or a != self.t % width for a in range(width)]
            return {
                "observation": np.full(width, self.t + self.luck, np.float32),
                "action_mask": np.array(mask, np.int8),
            }

        return {agent: sight(WIDTHS[agent]) for agent in self.agents}

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.agents, self.t, self.luck = list(self.possible_agents), 0, self.rng.random()
        return self.look(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.t += 1
        observations = self.look()
        rewards = {agent: float(actions[agent]) for agent in self.agents}
        out_of_time = self.luck < 0.5 and self.t == 3
        terminations = {agent: self.t == {"short": 2, "long": 4}[agent] for agent in self.agents}
        truncations = {agent: out_of_time for agent in self.agents}
        infos = {agent: {} for agent in self.agents}
        self.agents = [agent for agent in self.agents if not (terminations[agent] or truncations[agent])]
        return observations, rewards, terminations, truncations, infos

    def state(self):
        return np.array([self.t, self.luck], np.float32)


class Beside(Relay):
    """Relay, whose masks are in the infos."""

    def observation_space(self, agent):
        return super().observation_space(agent)["observation"]

    def look(self):
        both = super().look()
        self.infos = {agent: {"action_mask": seen["action_mask"]} for agent, seen in both.items()}
        return {agent: seen["observation"] for agent, seen in both.items()}

    def reset(self, seed=None, options=None):
        observations, _ = super().reset(seed, options)
        return observations, self.infos

    def step(self, actions):
        *rest, _ = super().step(actions)
        return *rest, self.infos


class Push(ParallelEnv):
    """Continuous; the reward of an agent is the sum of its true actions, bounded 0 to 2 and -3 to 1; 5 steps."""

    metadata = {"name": "push"}
    max_cycles = 5
    bounds = {"left": (0.0, 2.0, 2), "right": (-3.0, 1.0, 1)}

    def __init__(self):
        self.possible_agents = list(self.bounds)

    def observation_space(self, agent):
        return Box(0, 5, (1,))

    def action_space(self, agent):
        low, high, width = self.bounds[agent]
        return Box(low, high, (width,))

    def reset(self, seed=None, options=None):
        self.agents, self.t = list(self.possible_agents), 0
        return {agent: np.zeros(1, np.float32) for agent in self.agents}, {agent: {} for agent in self.agents}

    def step(self, actions):
        self.t += 1
        agents, over = self.agents, self.t == 5
        observations = {agent: np.full(1, self.t, np.float32) for agent in agents}
        rewards = {agent: float(actions[agent].sum()) for agent in agents}
        flags = {agent: False for agent in agents}
        self.agents = [] if over else agents
        return observations, rewards, flags, {agent: over for agent in agents}, {agent: {} for agent in agents}
