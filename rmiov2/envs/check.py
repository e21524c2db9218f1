"""The contract of envs/base.py, run against any environment, also a user's."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.types import Actions, Bools, EnvSpec, Ints, Step, UserError

MOST_STEPS = 3000  # by then every environment that we know has begun a second episode in every row
SEED = 7

Chooser = Callable[[Step, EnvSpec, np.random.Generator], Actions]


@dataclass
class Recording:
    steps: list[Step]  # as they were when they were handed out
    handed: list[Step]  # the same, as they are now
    ended: Bools  # (B,) rows in which an episode ended and another began


def check_env(env: Env) -> list[str]:
    """Run the contract; gives one sentence per thing checked, raises UserError for the first that does not hold.

    Resets the environment and leaves it open. Takes a few thousand steps at most.
    """
    spec, lines = env.spec, []
    _specification(spec)
    lines.append(f"{spec.name}: {spec.num_agents} agents, {spec.obs_dim} observed numbers, {spec.state_dim} of state")
    recording = _record(env, SEED, _random)
    lines.append(f"shapes, types, padding, masks, finite numbers: {len(recording.steps)} rows of {env.num_envs} games")
    lines.append(_timeline(recording, spec))
    _same(recording.steps, recording.handed, spec, "a step that was handed out is overwritten by a later one")
    lines.append("steps once handed out stay as they are")
    again = _record(env, SEED, _random)
    _same(recording.steps, again.steps, spec, "the same seed and actions give different games")
    other = _record(env, SEED + 1, _random)
    alike = _difference(recording.steps, other.steps) is None
    lines.append("the same seed gives the same games" + ("; so does another seed, with these actions" if alike else ""))
    ignoring = _record(env, SEED, _random_but_zero_where_done)
    _same(recording.steps, ignoring.steps, spec, "the action of a row that was done changes what follows")
    lines.append("the action of a row that is done is ignored")
    lines.append(_refusals(env))
    return lines


def _random(step: Step, spec: EnvSpec, rng: np.random.Generator) -> Actions:
    """A random action that is allowed, for every agent."""
    if step.avail is None:
        shape = (*step.obs.shape[:2], spec.act_dim)
        return rng.uniform(-1, 1, shape).astype(np.float32)
    act: Ints = np.argmax(rng.random(step.avail.shape) * step.avail, axis=-1)
    return act


def _random_but_zero_where_done(step: Step, spec: EnvSpec, rng: np.random.Generator) -> Actions:
    act = _random(step, spec, rng)
    act[step.done] = 0
    return act


def _record(env: Env, seed: int, choose: Chooser) -> Recording:
    """Play until every row has begun a second episode, and ten steps more; raises UserError for an unsound step."""
    rng = np.random.default_rng(SEED)
    step = _sound(env.reset(seed), env)
    recording = Recording([deepcopy(step)], [step], np.zeros(env.num_envs, bool))
    more = 10
    while len(recording.steps) < MOST_STEPS and more:
        step = _sound(env.step(choose(step, env.spec, rng)), env)
        recording.steps.append(deepcopy(step))
        recording.handed.append(step)
        recording.ended |= step.first
        more -= bool(recording.ended.all())
    return recording


def _sound(step: Step, env: Env) -> Step:
    _shapes(step, env)
    _contents(step, env.spec)
    return step


def _require(holds: bool | np.bool_, spec: EnvSpec, mistake: str) -> None:
    if not holds:
        raise UserError(f"{spec.name} breaks the contract of rmiov2/envs/base.py: {mistake}")


def _specification(spec: EnvSpec) -> None:
    n = spec.num_agents
    _require(len(spec.obs_widths) == n == len(spec.act_widths), spec, "spec needs two widths per agent")
    _require(max(spec.obs_widths) == spec.obs_dim, spec, "spec.obs_dim is not the width of the widest agent")
    _require(max(spec.act_widths) == spec.act_dim, spec, "spec.act_dim is not the width of the widest agent")
    _require(spec.measure in ("win_rate", "step_return"), spec, f"spec.measure is {spec.measure!r}")
    _require(bool(spec.idle_actions) == spec.discrete, spec, "spec.idle_actions: for discrete actions, and only them")


def _shapes(step: Step, env: Env) -> None:
    spec, rows = env.spec, env.num_envs
    team = (rows, spec.num_agents)
    flags = ("terminated", "truncated", "won", "first", "lost")
    expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "obs": ((*team, spec.obs_dim), np.float32),
        "seen": (team, np.bool_),
        "state": ((rows, spec.state_dim), np.float32),
        "rew": ((rows,), np.float32),
        **{flag: ((rows,), np.bool_) for flag in flags},
    }
    if spec.discrete:
        expected["avail"] = ((*team, spec.act_dim), np.bool_)
    else:
        _require(step.avail is None, spec, "continuous actions, and yet a mask of available ones")
    for name, (shape, dtype) in expected.items():
        value = getattr(step, name)
        _require(isinstance(value, np.ndarray), spec, f"{name} is a {type(value).__name__}, expected a numpy array")
        got = f"{name} is {value.dtype} of shape {value.shape}, expected {np.dtype(dtype)} of shape {shape}"
        _require(value.shape == shape and value.dtype == dtype, spec, got)


def _contents(step: Step, spec: EnvSpec) -> None:
    for i, width in enumerate(spec.obs_widths):
        _require(not step.obs[:, i, width:].any(), spec, f"agent {i} has an observation beyond its width {width}")
    for name in ("obs", "state", "rew"):
        _require(np.isfinite(getattr(step, name)).all(), spec, f"{name} is not finite")
    _require(not (step.terminated & step.truncated).any(), spec, "a step both terminated and truncated")
    _require(not (step.won & ~step.done).any(), spec, "an episode was won before it ended")
    decided = step.terminated | step.truncated | step.won
    _require(not (step.lost & decided).any(), spec, "an episode was lost, its game broken, and yet decided")
    if step.avail is None:
        return
    _require(step.avail.any(axis=-1).all(), spec, "an agent has no available action")
    idle = step.avail[..., list(spec.idle_actions)].any(axis=-1)
    _require(idle.all(), spec, "an agent has none of spec.idle_actions, so an illegal choice could not be made legal")
    for i, width in enumerate(spec.act_widths):
        _require(not step.avail[:, i, width:].any(), spec, f"agent {i} may act beyond its width {width}")


def _timeline(recording: Recording, spec: EnvSpec) -> str:
    """First follows done and nothing else, with no reward; no episode is longer than the limit."""
    steps = recording.steps
    _require(steps[0].first.all(), spec, "a row after reset is not marked first")
    length = np.zeros(len(steps[0].first), int)
    for before, after in zip(steps, steps[1:], strict=False):
        _require(np.array_equal(before.done, after.first), spec, "first must mark the rows after a last observation")
        _require(not after.rew[after.first].any(), spec, "the first row of an episode has a reward")
        _require(not (after.done & after.first).any(), spec, "an episode ended with its first row")
        length = np.where(after.first, 0, length + 1)
        in_time = not spec.episode_limit or length.max() <= spec.episode_limit
        _require(in_time, spec, f"an episode is longer than spec.episode_limit = {spec.episode_limit}")
    ends = {name: int(sum(getattr(step, name).sum() for step in steps)) for name in ("terminated", "truncated", "won")}
    told = ", ".join(f"{count} {name}" for name, count in ends.items())
    unseen = "" if recording.ended.all() else f"; unchecked where no episode ended within {len(steps)} steps"
    return f"last observations are kept and new episodes marked: {told}{unseen}"


def _same(left: list[Step], right: list[Step], spec: EnvSpec, mistake: str) -> None:
    difference = _difference(left, right)
    _require(difference is None, spec, f"{mistake} ({difference})")


def _difference(left: list[Step], right: list[Step]) -> str | None:
    """Where two records first differ, None if nowhere."""
    for t, (one, other) in enumerate(zip(left, right, strict=False)):
        for field in fields(Step):
            if not np.array_equal(getattr(one, field.name), getattr(other, field.name)):
                return f"{field.name}, row {t}"
    return None if len(left) == len(right) else "the number of steps"


def _refusals(env: Env) -> str:
    """An action that is not allowed must raise UserError."""
    spec = env.spec
    step = env.reset(SEED)
    act = _random(step, spec, np.random.default_rng(SEED))
    if step.avail is None:
        act[0, 0, 0] = 2.0
    elif step.avail.all():
        act[0, 0] = spec.act_dim
    else:
        row, agent, forbidden = np.argwhere(~step.avail)[0]
        act[row, agent] = forbidden
    try:
        env.step(act)
    except UserError as refusal:
        return f"what is not allowed is refused: {refusal}"
    raise UserError(f"{spec.name} breaks the contract of rmiov2/envs/base.py: it plays an action that is not allowed")
