"""What model-free training costs: MAPPO's steps beside the bare environment's, FACMAC's update beside its floor."""

from __future__ import annotations

from benchmarks.cases import CHEETAH, SMAX, composed, spec_of, synthetic_replay
from benchmarks.clock import Effort, Work, against_floor
from benchmarks.methods import update
from benchmarks.playing import beside_bare, random_play
from benchmarks.table import Row
from rmiov2.agents.registry import make_agent
from rmiov2.config import Config
from rmiov2.envs.base import Env
from rmiov2.envs.registry import make_env
from rmiov2.seeding import Generators
from rmiov2.training.collect import Rollout
from rmiov2.training.pretrain import Pretraining

SHARE = 0.4  # of the bare environment's speed
UPDATES = 10


def model_free(effort: Effort) -> list[Row]:
    """Both, with the settings that conf/agent has for the task."""
    return [_mappo(effort), _facmac(effort)]


def _mappo(effort: Effort) -> Row:
    config = composed(env=SMAX, agent="mappo_smax")
    envs = [make_env(SMAX, config.collect.num_envs, config.seed) for _ in range(2)]
    label = f"MAPPO's training, {SMAX}, {config.collect.num_envs} envs"
    works = _rollouts_learned_from(config, envs[0]), random_play(config, envs[1], Rollout)
    return beside_bare(label, works, envs, SHARE, effort)


def _rollouts_learned_from(config: Config, env: Env) -> Work:
    run = Pretraining(config, env, [])

    def work() -> float:
        before = run.env_steps
        run.sweep()
        return float(run.env_steps - before)

    return work


def _facmac(effort: Effort) -> Row:
    config, spec = composed(env=CHEETAH, agent="facmac"), spec_of(CHEETAH)
    work = update(make_agent(config, spec), synthetic_replay(spec, 100), Generators(config.seed), UPDATES, 0)
    return against_floor(f"FACMAC's update, {CHEETAH}", "updates", work, None, effort)
