"""What playing costs: collection beside the bare environment, evaluation under loss, one decision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count

import numpy as np

from benchmarks.cases import CHEETAH, SMAX, as_run, composed, spec_of, untrained
from benchmarks.clock import Effort, Work, rates
from benchmarks.table import Row
from rmiov2.config import Config
from rmiov2.envs.base import Env
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.episodes import play
from rmiov2.evaluation.sweep import rows_of
from rmiov2.progress import bar
from rmiov2.training.collect import Rollout, Sweep, random_policy
from rmiov2.training.pretrain import Pretraining, policy_of
from rmiov2.types import Bools, EnvSpec, Floats

SHARE = 0.7  # of the bare environment's speed
EPISODES, MINUTES = 1000, 5  # per value of p_loss, and what all of them may take
ROUNDS = 3  # episodes of each row of the wide batch
DECISIONS = 300
LONG = 10**6  # steps of an episode that does not end


def collection(params: Config, effort: Effort) -> list[Row]:
    """Environment steps per second, what is learned from included, beside the same sweeps of random play."""
    return [_collection(as_run(params, name), effort) for name in (SMAX, CHEETAH)]


def _collection(config: Config, effort: Effort) -> Row:
    envs = [make_env(config.env.name, config.collect.num_envs, config.seed) for _ in range(2)]
    label = f"collection, {config.env.name}, {config.preset}, {config.collect.num_envs} envs"
    works = _agent_sweeps(config, envs[0]), random_play(config, envs[1], Sweep)
    return beside_bare(label, works, envs, SHARE, effort)


def beside_bare(label: str, works: tuple[Work, Work], envs: Sequence[Env], aim: float, effort: Effort) -> Row:
    """Environment steps per second of the first work beside those of the second, random play; closes envs."""
    try:
        for warm_up in works:
            warm_up()
        measured, bare = rates(label, works, effort)
    finally:
        for env in envs:
            env.close()
    rate, alone, share = (float(np.median(x)) for x in (measured, bare, measured / bare))
    return Row(
        label, f"{rate:,.0f} env steps/s", f"{share:.0%} of the bare environment's {alone:,.0f}",
        f"at least {aim:.0%}", share >= aim, {"per_second": rate, "bare_per_second": alone, "share": share},
    )  # fmt: skip


def _agent_sweeps(config: Config, env: Env) -> Work:
    run, seeds = Pretraining(config, env, []), count()

    def work() -> float:
        policy = policy_of(run.agent, env.num_envs, run.rngs.numpy["exploration"], False)
        game = Sweep(env, policy, next(seeds), config.pretrain.segment)
        for pieces in game.pieces():
            run.keep(pieces)
        return float(game.steps())

    return work


def random_play(config: Config, env: Env, kind: type[Sweep] | type[Rollout]) -> Work:
    """The bare environment: sweeps or rollouts in which nobody thinks or learns."""
    policy, seeds = random_policy(env.spec, np.random.default_rng(config.seed)), count()

    def work() -> float:
        game = kind(env, policy, next(seeds), config.pretrain.segment)
        for _ in game.pieces():
            pass
        return float(game.steps())

    return work


def evaluation(params: Config, effort: Effort) -> list[Row]:
    """Episodes per second with completion, an untrained team at every p_loss in one wide batch."""
    config = as_run(params, SMAX)
    values, width = len(config.evaluate.p_loss), rows_of(config.evaluate)
    env = make_env(SMAX, width, config.seed)
    work = _episodes(config, env)
    label = f"evaluation with completion, {SMAX}, {config.preset}, {values} values of p_loss, {width} teams"
    try:
        work()
        rate = float(np.median(rates(label, [work], effort)))
    finally:
        env.close()
    seconds = EPISODES * values / rate
    beside = f"untrained team; {EPISODES} episodes x {values} values: {seconds / 60:.1f} minutes"
    numbers = {"per_second": rate, "projected_seconds": seconds}
    aim, met = f"at most {MINUTES} minutes", seconds <= 60 * MINUTES
    return [Row(label, f"{rate:,.1f} episodes/s", beside, aim, met, numbers)]


def _episodes(config: Config, env: Env) -> Work:
    e, agent, seeds = config.evaluate, untrained(config, env.spec), count()
    share = env.num_envs // len(e.p_loss)
    p_loss = np.repeat(np.asarray(e.p_loss), share)

    def work() -> float:
        seed = next(seeds)
        played = play(env, agent.team(env.num_envs, seed), e.pattern, p_loss, ROUNDS * share, seed)
        return float(len(played["won"]))

    return work


def latency(presets: Sequence[str]) -> list[Row]:
    """Milliseconds until one team has decided."""
    spec = spec_of(SMAX)
    return [row for preset in presets for row in _latencies(composed(preset=preset, env=SMAX), spec)]


def _latencies(config: Config, spec: EnvSpec) -> list[Row]:
    nobody = np.ones((1, spec.num_agents), bool)
    one, steps = np.arange(spec.num_agents)[None] > 0, config.execution.history
    return [
        _latency(config, spec, "without completion", "nobody blind", nobody, LONG),
        _latency(config, spec, f"completion, first {steps} steps", "one agent blind", one, steps),
        _latency(config, spec, f"completion, later, over {steps} steps", "one agent blind", one, LONG),
    ]


def _latency(config: Config, spec: EnvSpec, how: str, beside: str, seen: Bools, episode: int) -> Row:
    label = f"one decision, {spec.name}, {config.preset}, {how}"
    times = 1e3 * decision_seconds(config, spec, seen, label, episode)
    median, slow = float(np.median(times)), float(np.quantile(times, 0.95))
    return Row(
        label, f"median {median:.2f} ms, 95th percentile {slow:.2f} ms", beside,
        numbers={"median_ms": median, "p95_ms": slow},
    )  # fmt: skip


def decision_seconds(config: Config, spec: EnvSpec, seen: Bools, label: str, episode: int) -> Floats:
    """The time of each of DECISIONS decisions of one team, seen (1, N), in episodes of so many steps, once its history
    has been full or, where they are shorter, one is over.
    """
    team, rng = untrained(config, spec).team(1, config.seed), np.random.default_rng(config.seed)
    avail = np.ones((1, spec.num_agents, spec.act_dim), bool) if spec.discrete else None
    warm_up, show, times = config.execution.history + 5, bar(label, "decision"), []
    for k in range(warm_up + DECISIONS):
        obs = rng.normal(size=(1, spec.num_agents, spec.obs_dim)).astype(np.float32)
        began = time.perf_counter()
        team.act(obs, seen, avail, np.array([k % episode == 0]))
        times.append(time.perf_counter() - began)
        show(k + 1, warm_up + DECISIONS)
    return np.asarray(times[warm_up:])
