"""RMIO's correction block: what it may look at, what it learns and leaves alone, and that its training resumes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_cases import agent_and_replay, of_agent, random_games, settings
from test_training import digests, run, tiny
from windows import opinionated, record

from rmiov2.agents.rmio import RMIO
from rmiov2.agents.rmio.correction import Correction, correction_loss, unroll
from rmiov2.agents.tensors import to_torch
from rmiov2.execution.window import decide
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.training import checkpoint
from rmiov2.training.finetune import HeldOut
from rmiov2.types import Bools
from rmiov2.world_model.rollout import observe

Batch = dict[str, torch.Tensor]


def rmio(env: str = "toy/lights", sweeps: int = 8, **changes: object) -> tuple[RMIO, Replay]:
    agent, replay = agent_and_replay(settings(env, **(of_agent("rmio") | changes)), sweeps)
    assert isinstance(agent, RMIO)
    return agent, replay


def half_blind(batch: int, length: int) -> Bools:
    return np.random.default_rng(0).random((batch, length, 3)) < 0.5


@pytest.fixture(scope="module")
def case() -> tuple[RMIO, Batch, torch.Tensor]:
    """An agent whose block says something, a batch, and who sees what in it."""
    agent, replay = rmio()
    agent.update(replay, Generators(0), 20, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        agent.correction.change.weight.copy_(
            0.1 * torch.randn(agent.correction.change.weight.shape, generator=generator)
        )
    batch = to_torch(replay.sample(6, 8, np.random.default_rng(1)), agent.device)
    return agent, batch, torch.from_numpy(half_blind(6, 8)).float()


def unrolled(agent: RMIO, obs: torch.Tensor, seen: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
    said = unroll(agent.model, agent.correction, obs, seen, batch["act"], agent.model.initial(batch["start"]))
    return said.features, said.given, said.obs


def test_where_nobody_is_blind_it_is_the_world_model_and_the_truth(case: tuple[RMIO, Batch, torch.Tensor]) -> None:
    agent, batch, seen = case
    features, given, obs = unrolled(agent, batch["obs"], torch.ones_like(seen), batch)
    h = agent.model.initial(batch["start"])
    plain = observe(agent.model, batch["obs"], torch.ones_like(seen), batch["act"], h, None)
    assert torch.allclose(features, plain.features, atol=1e-5)
    assert torch.equal(obs, batch["obs"]) and torch.equal(given, batch["obs"])


def test_neither_what_was_lost_nor_what_comes_later_reaches_it(case: tuple[RMIO, Batch, torch.Tensor]) -> None:
    agent, batch, seen = case
    first = unrolled(agent, batch["obs"], seen, batch)
    lost = torch.where(seen[..., None] == 1, batch["obs"], torch.full_like(batch["obs"], 7.0))
    assert all(torch.equal(a, b) for a, b in zip(first, unrolled(agent, lost, seen, batch), strict=True))
    later = batch["obs"].clone()
    later[:, 5:] = 7.0
    assert all(torch.equal(a[:, :5], b[:, :5]) for a, b in zip(first, unrolled(agent, later, seen, batch), strict=True))


def test_a_lost_observation_is_predicted_by_the_prior_then_corrected_by_what_others_saw(
    case: tuple[RMIO, Batch, torch.Tensor],
) -> None:
    agent, batch, seen = case
    features, given, obs = unrolled(agent, batch["obs"], seen, batch)
    h, lost = features[..., : agent.config.world_model.deter], seen == 0
    with torch.no_grad():
        prior = torch.cat([h, agent.model.sample(agent.model.prior_probs(h), None)], -1)
        assert torch.allclose(given[lost], agent.model.predict.obs(prior)[lost], atol=1e-5)
        assert torch.allclose(obs[lost], agent.correction(given.flatten(0, 1), seen.flatten(0, 1)).view_as(obs)[lost])
    assert torch.equal(obs[~lost], batch["obs"][~lost]) and (obs[lost] - given[lost]).abs().min(-1).values.max() > 0
    others = given.flatten(0, 1).clone().requires_grad_()
    agent.correction(others, seen.flatten(0, 1))[:, 0].square().sum().backward()
    assert others.grad is not None and others.grad[:, 1:].abs().sum(-1).min() > 0


def test_its_loss_is_the_mean_square_on_lost_agents_alone() -> None:
    """A new block changes nothing, so by hand: only agent 1 of the first window is lost; then its width is cut to 1."""
    agent, _ = rmio(sweeps=1)
    block = Correction(agent.config.world_model, agent.spec)
    given, obs = torch.zeros(2, 1, 3, agent.spec.obs_dim), torch.ones(2, 1, 3, agent.spec.obs_dim)
    obs[0, 0, 1] = 3.0
    lost = torch.zeros(2, 1, 3)
    assert correction_loss(block, given, obs, lost).item() == 0
    lost[0, 0, 1] = 1
    loss = correction_loss(block, given, obs, lost)
    assert loss.item() == pytest.approx(9.0)
    block.width_mask[1, 1:] = 0
    obs[0, 0, 1, 1:] = 100.0
    assert correction_loss(block, given, obs, lost).item() == pytest.approx(9.0)


def test_masked_updates_teach_the_block_alone_and_others_leave_it() -> None:
    agent, replay = rmio()

    def weights() -> dict[str, dict[str, torch.Tensor]]:
        parts = {"model": agent.model, "actor": agent.actor, "critic": agent.critic, "correction": agent.correction}
        return {name: {key: v.clone() for key, v in part.state_dict().items()} for name, part in parts.items()}

    def moved(before: dict[str, dict[str, torch.Tensor]]) -> set[str]:
        after = weights()
        return {part for part in after if any(not torch.equal(v, before[part][k]) for k, v in after[part].items())}

    before = weights()
    agent.update(replay, Generators(0), 2, 1)
    assert moved(before) == {"model", "actor", "critic"}
    before = weights()
    told = agent.update(replay, Generators(0), 3, 0, half_blind)
    assert moved(before) == {"correction"} and told["loss_correction"] > 0 and agent.updates == 5
    before = weights()
    told = agent.update(replay, Generators(0), 1, 0, lambda b, t: np.ones((b, t, 3), bool))
    assert told["loss_correction"] == told["grad_norm_correction"] == 0, "nobody was lost"


def test_the_world_model_overfits_ten_episodes_and_then_the_block_does() -> None:
    agent, _ = rmio(world_model__lr=3e-3, finetune__lr=3e-3, execution__history=9)
    replay = Replay(agent.spec, 10_000)
    for game in random_games("toy/lights", 5, 2):
        replay.add(game, game.rew)
    first = agent.update(replay, Generators(0), 1, 0)
    agent.update(replay, Generators(1), 250, 0)
    last = agent.update(replay, Generators(2), 10, 0)
    assert last["loss_obs"] < 0.05 * first["loss_obs"]
    assert last["loss_rew"] < 0.2 * first["loss_rew"] and last["loss_avail"] < 0.1 * first["loss_avail"]
    batch = replay.sample(64, 10, np.random.default_rng(0))
    before, rng = agent.reconstruction_error(batch, half_blind(64, 10)), np.random.default_rng(1)
    agent.update(replay, Generators(3), 100, 0, lambda b, t: rng.random((b, t, 3)) < 0.5)
    assert agent.reconstruction_error(batch, half_blind(64, 10)) < 0.5 * before


@pytest.mark.parametrize("env", ["toy/lights", "toy/dials"])
def test_windows_decide_as_the_team_that_remembers(env: str) -> None:
    agent, replay = rmio(env, execution__history=20, world_model__normalise_obs=env == "toy/dials")
    agent.update(replay, Generators(0), 10, 0)
    agent.update(replay, Generators(0), 10, 0, half_blind)
    recorded = record(opinionated(agent), 3, 12, 0.5)
    act, completed = decide(agent, recorded.windows)
    assert np.allclose(act, recorded.act, atol=1e-5) and np.allclose(completed, recorded.completed, atol=1e-4)
    assert np.isfinite(completed).all() and agent.own_mode == "completion"


def forerunner(**changes: object) -> object:
    return tiny(**(of_agent("rmio") | {"finetune__updates": 60, "finetune__lr": 3e-3} | changes))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    run(forerunner(), folder)  # type: ignore[arg-type]
    return folder


def test_stopped_in_either_stage_it_goes_on_to_the_bit(straight: Path, tmp_path: Path) -> None:
    stops = [3, 1, 7]  # words heard before each: one stop in pre-training, two in fine-tuning

    def stop(text: str, share: float) -> None:
        if stops and stops[0] == 0:
            stops.pop(0)
            raise KeyboardInterrupt
        if stops:
            stops[0] -= 1

    halted = set()
    while stops:
        try:
            run(forerunner(), tmp_path, stop)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            halted.add("finetune" if (tmp_path / "pretrain" / "checkpoint.safetensors").is_file() else "pretrain")
    run(forerunner(), tmp_path)  # type: ignore[arg-type]
    assert halted == {"pretrain", "finetune"} and digests(tmp_path) == digests(straight)


def test_fine_tuning_moves_the_block_alone_and_its_curve_of_l_rec_falls(straight: Path) -> None:
    before, after = (
        checkpoint.load(straight / stage / "checkpoint.safetensors").state["agent"]
        for stage in ("pretrain", "finetune")
    )
    same = {
        part: all((before[part][name] == after[part][name]).all() for name in before[part])
        for part in ("model", "actor", "critic", "correction")
    }
    assert same == {"model": True, "actor": True, "critic": True, "correction": False}
    with (straight / "finetune.csv").open() as lines:
        errors = [float(row["l_rec"]) for row in csv.DictReader(lines)]
    assert len(errors) == 21 and errors[-1] < errors[0]


def test_it_is_measured_on_the_windows_that_rmiov2_would_be() -> None:
    """The held-out windows are made by the policy and the seed, not by what reconstructs them."""
    ours, _ = agent_and_replay(tiny(), sweeps=1)
    theirs, _ = agent_and_replay(forerunner(), sweeps=1)  # type: ignore[arg-type]
    theirs.actor.load_state_dict(ours.actor.state_dict())
    mine, other = HeldOut(ours.config, ours), HeldOut(theirs.config, theirs)
    assert np.array_equal(mine.batch.obs, other.batch.obs) and np.array_equal(mine.seen, other.seen)
    assert mine.l_rec(ours) != other.l_rec(theirs)
