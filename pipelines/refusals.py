"""What is refused before the first stage, as DVC takes a stage's committed metrics away before the stage can refuse."""

from __future__ import annotations

from rmiov2.config import Config

# Whether a suite's actions are discrete; to build one of its games takes a simulator, which may be absent.
DISCRETE = {"smax": True, "smac": True, "mamujoco": False}


def refuse_impossible(config: Config) -> None:
    """Raise UserError for a method that cannot play the environment, or learn on the device, on whatever machine."""
    from rmiov2.agents.base import refuse_device, refuse_mismatch
    from rmiov2.agents.registry import class_of
    from rmiov2.types import EnvSpec

    name, env = config.agent.label, config.env.name
    capabilities = class_of(config.agent).capabilities
    refuse_device(name, capabilities, config.device, config.precision)
    if (discrete := discrete_of(env)) is not None:
        spec = EnvSpec(  # as much of it as is looked at
            name=env, discrete=discrete, num_agents=0, obs_dim=0, obs_widths=(), act_dim=0, act_widths=(), state_dim=0,
            episode_limit=0, measure="",
        )  # fmt: skip
        refuse_mismatch(name, capabilities, spec)


def discrete_of(env: str) -> bool | None:
    """Whether an environment's actions are discrete; None where only a user's own code knows."""
    from rmiov2.envs.registry import make_env

    suite = env.partition("/")[0]
    return make_env(env, 1).spec.discrete if suite == "toy" else DISCRETE.get(suite)


def refuse_unrunnable(config: Config) -> None:
    """Raise UserError for what is impossible anywhere, or on this machine, which may have no GPU."""
    from rmiov2.acceleration.captured import device_of

    refuse_impossible(config)
    device_of(config.device)
    refuse_nobody(config)


def refuse_nobody(config: Config) -> None:
    """Raise UserError where a pattern of loss names an agent that there is not, before fine-tuning first draws it."""
    import numpy as np

    from rmiov2.envs.observation_loss import LossPattern
    from rmiov2.envs.registry import make_env

    patterns = (config.finetune.pattern, config.evaluate.pattern)
    if any(pattern.startswith("one_agent:") for pattern in patterns):
        env = make_env(config.env.name, 1)
        env.close()
        for pattern in patterns:
            LossPattern(pattern, 0.0, 1, env.spec.num_agents, np.random.default_rng(0))
