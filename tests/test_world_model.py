"""The world model: what it may look at, what it must not, and that it learns."""

import math

import numpy as np
import pytest
import torch
from learning_cases import agent_and_replay, random_games, settings

from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.agents.tensors import to_torch
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.types import Bools
from rmiov2.world_model.losses import balanced_kl, kl_divergence, model_losses, total_loss
from rmiov2.world_model.rollout import imagine, observe


def batch_of(agent: RMIOv2, replay: Replay, windows: int = 6, length: int = 8) -> dict[str, torch.Tensor]:
    return to_torch(replay.sample(windows, length, np.random.default_rng(1)), agent.device)


def test_reward_and_end_are_read_off_the_row_that_the_step_led_to() -> None:
    """toy/clock pays its step's number: the prediction from row t+1 is that of step t, and no other row's."""
    agent, replay = agent_and_replay(settings("toy/clock", world_model__lr=3e-3), sweeps=20)
    agent.update(replay, Generators(0), 300, 0)
    batch = batch_of(agent, replay, 64)
    seen = torch.ones(batch["obs"].shape[:3])
    features = observe(
        agent.model, batch["obs"], seen, batch["act"], agent.model.initial(batch["start"]), None
    ).features
    with torch.no_grad():
        said, arrived = agent.model.predict.reward(features), batch["step"].bool()
    right = (said[:, 1:] - batch["rew"][:, :-1])[arrived[:, :-1]].abs().mean()
    early = (said[:, :-1] - batch["rew"][:, :-1])[arrived[:, :-1]].abs().mean()
    assert right < 0.05 < 0.1 < early
    # Games end at random, but by termination only on rows 4 and 6, where 1/4 and 1/2 of those that got there end.
    going_on, row = agent.model.predict.continuation(features).detach(), batch["obs"][:, :, 0, :8].argmax(-1)
    mean = {k: going_on[(row == k) & batch["row"].bool()].mean() for k in range(1, 8)}
    assert min(mean[3], mean[5], mean[7]) > 0.9 > mean[4] > mean[6]


def test_what_a_blind_agent_would_have_seen_cannot_reach_the_latents() -> None:
    agent, replay = agent_and_replay(settings("toy/lights"))
    batch = batch_of(agent, replay)
    seen = (torch.rand(batch["obs"].shape[:3], generator=torch.Generator().manual_seed(0)) < 0.5).float()
    obs = batch["obs"].clone().requires_grad_()
    latent = observe(agent.model, obs, seen, batch["act"], agent.model.initial(batch["start"]), None)
    (latent.probs.square().sum() + latent.h.square().sum()).backward()
    assert obs.grad is not None
    assert (obs.grad[seen == 0] == 0).all() and (obs.grad[seen == 1].abs().sum(-1) > 0).any()
    other = torch.where(seen[..., None] == 1, batch["obs"], torch.full_like(batch["obs"], 7.0))
    again = observe(agent.model, other, seen, batch["act"], agent.model.initial(batch["start"]), None)
    assert torch.equal(again.probs, latent.probs) and torch.equal(again.h, latent.h)


def test_without_ids_agents_in_another_order_give_the_same_in_that_order() -> None:
    agent, replay = agent_and_replay(settings("toy/lights", world_model__agent_ids=False))
    batch, order = batch_of(agent, replay), torch.tensor([2, 0, 1])
    seen = torch.ones(batch["obs"].shape[:3])
    seen[:, ::2, 1] = 0
    straight = observe(agent.model, batch["obs"], seen, batch["act"], agent.model.initial(batch["start"]), None)
    turned = observe(
        agent.model,
        batch["obs"][:, :, order],
        seen[:, :, order],
        batch["act"][:, :, order],
        agent.model.initial(batch["start"]),
        None,
    )
    assert torch.allclose(turned.probs, straight.probs[:, :, order], atol=1e-5)
    predict = agent.model.predict
    assert torch.allclose(predict.reward(turned.features), predict.reward(straight.features), atol=1e-5)
    assert torch.allclose(predict.obs(turned.features), predict.obs(straight.features)[:, :, order], atol=1e-5)


@pytest.mark.parametrize("fusion", ["observation_fusion", "action_fusion"])
def test_agents_hear_of_each_other_only_through_the_fusions(fusion: str) -> None:
    def influence(**changes: bool) -> float:
        """Of agent 0's first observation on what the model makes of the others, ever after."""
        config = settings("toy/lights", **{f"world_model__{name}": value for name, value in changes.items()})
        agent, replay = agent_and_replay(config)
        batch = batch_of(agent, replay)
        obs = batch["obs"].clone().requires_grad_()
        latent = observe(
            agent.model, obs, torch.ones(obs.shape[:3]), batch["act"], agent.model.initial(batch["start"]), None
        )
        (latent.probs[:, :, 1:].square().sum() + latent.h[:, :, 1:].square().sum()).backward()
        assert obs.grad is not None
        return float(obs.grad[:, 0, 0].abs().sum())

    assert influence(observation_fusion=False, action_fusion=False) == 0
    assert influence(**{"observation_fusion": False, "action_fusion": False, fusion: True}) > 0


def test_kl_of_categoricals_in_closed_form_and_which_side_it_trains() -> None:
    p = torch.tensor([[[0.75, 0.25], [0.5, 0.5]]], requires_grad=True)
    q = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]], requires_grad=True)
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    second = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert kl_divergence(p, q, "sum").item() == pytest.approx(first + second)
    assert kl_divergence(p, q, "mean").item() == pytest.approx((first + second) / 2)
    balanced_kl(p, q, 1.0, 0.0, "sum").sum().backward()
    assert p.grad is None or not p.grad.any()
    assert q.grad is not None and q.grad.any()
    assert balanced_kl(p, q, 0.8, 5.0, "sum").item() == pytest.approx(5.0), "below the free nats nothing is gained"


def test_samples_are_one_hot_follow_the_probabilities_and_pass_their_gradient_straight_through() -> None:
    agent, _ = agent_and_replay(settings("toy/lights", world_model__unimix=0.1), sweeps=1)
    probs = agent.model.probs(torch.full((20_000, 16), 0.0) + torch.tensor([3.0, 0, 0, 0]).repeat(4)).requires_grad_()
    assert probs.min() >= 0.1 / 4 - 1e-6
    generator = torch.Generator().manual_seed(0)
    noise = -torch.log(-torch.log(torch.rand(probs.shape, generator=generator).clamp(1e-7, 1 - 1e-7)))
    z = agent.model.sample(probs, noise)
    one_hot = z.detach().view(-1, 4, 4)
    assert torch.allclose(one_hot.sum(-1), torch.ones(20_000, 4)) and one_hot.max() <= 1 + 1e-6
    assert torch.allclose(one_hot.mean((0, 1)), probs[0, 0].detach(), atol=0.01)
    z.sum().backward()
    assert probs.grad is not None and torch.equal(probs.grad, torch.ones_like(probs))


def test_padding_costs_nothing() -> None:
    """Episodes of 3 to 7 rows in windows of 12: what stands in the padding changes no loss."""
    agent, replay = agent_and_replay(settings("toy/clock"))
    batch = batch_of(agent, replay, 16, 12)
    assert (batch["row"] == 0).any()

    def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        latent = observe(
            agent.model,
            batch["obs"],
            torch.ones(batch["obs"].shape[:3]),
            batch["act"],
            agent.model.initial(batch["start"]),
            None,
        )
        return total_loss(model_losses(agent.model, latent, batch)[0], 1.0)

    padded = dict(batch)
    for name in ("obs", "trend", "con"):
        value = batch[name].clone()
        value[batch["row"] == 0] = 3.0
        padded[name] = value
    assert torch.allclose(loss(batch), loss(padded))


def test_l_rec_is_the_mean_over_lost_agents_of_rows_that_exist() -> None:
    agent, replay = agent_and_replay(settings("toy/clock"))
    batch, rng = replay.sample(16, 12, np.random.default_rng(0)), np.random.default_rng(1)
    seen, start = rng.random(batch.obs.shape[:3]) < 0.5, torch.from_numpy(batch.start).float()
    obs, act = torch.from_numpy(batch.obs), torch.from_numpy(batch.act)
    with torch.no_grad():
        h = agent.model.initial(start)
        said = agent.model.predict.obs(observe(agent.model, obs, torch.from_numpy(seen).float(), act, h, None).features)
    off = np.abs(said.numpy() - batch.obs)
    error = np.where(off < 1, off**2 / 2, off - 0.5).sum(-1)  # no padding in toy/clock
    lost = ~seen & batch.row[..., None]
    assert agent.reconstruction_error(batch, seen) == pytest.approx(error[lost].mean(), rel=1e-4)
    assert not batch.row.all() and error[~seen].mean() != pytest.approx(error[lost].mean(), rel=0.01)


def test_the_loss_is_the_sum_of_its_terms_the_kl_and_mamba_s_actions_scaled() -> None:
    terms = {"obs": 1.0, "rew": 2.0, "con": 4.0, "avail": 8.0, "kl": 16.0, "act": 32.0}
    losses = {name: torch.tensor(value) for name, value in terms.items()}
    assert total_loss(losses, 0.3, 0.01).item() == pytest.approx(15 + 0.3 * 16 + 0.01 * 32)
    with pytest.raises(KeyError, match="reward"):
        total_loss({"reward": torch.tensor(1.0)}, 0.3)
    agent, replay = agent_and_replay(settings("toy/lights", world_model__kl_scale=0.25))
    told = agent.update(replay, Generators(0), 1, 0)
    others = sum(told[f"loss_{name}"] for name in ("obs", "rew", "con", "avail"))
    assert told["loss_model"] == pytest.approx(others + 0.25 * told["loss_kl"]) and told["loss_kl"] > 0


def test_an_episode_begins_in_a_state_of_its_own_and_a_window_amid_one_in_none() -> None:
    agent, _ = agent_and_replay(settings("toy/lights"), sweeps=1)
    assert agent.model.h_start is not None
    agent.model.h_start.data.fill_(1.0)
    h = agent.model.initial(torch.tensor([1.0, 0.0]))
    assert (h[0] == 1).all() and not h[1].any()


def test_overfits_ten_episodes() -> None:
    config = settings("toy/lights", world_model__lr=3e-3)
    agent, _ = agent_and_replay(config, sweeps=1)
    replay = Replay(agent.spec, 10_000)
    for game in random_games("toy/lights", 5, 2):
        replay.add(game, game.rew)
    first = agent.update(replay, Generators(0), 1, 0)
    agent.update(replay, Generators(1), 250, 0)
    last = agent.update(replay, Generators(2), 10, 0)
    assert last["loss_obs"] < 0.05 * first["loss_obs"]
    assert last["loss_rew"] < 0.2 * first["loss_rew"] and last["loss_avail"] < 0.1 * first["loss_avail"]


def test_imagination_is_finite_also_from_total_blindness_and_always_leaves_an_action() -> None:
    agent, _ = agent_and_replay(settings("toy/lights"), sweeps=1)
    n, latent_h = agent.spec.num_agents, torch.zeros(5, agent.spec.num_agents, 32)
    obs, seen = torch.zeros(5, 50, n, agent.spec.obs_dim), torch.zeros(5, 50, n)
    latent = observe(
        agent.model, obs, seen, torch.zeros(5, 50, n, dtype=torch.int64), agent.model.initial(torch.ones(5)), None
    )
    kl = kl_divergence(latent.probs, agent.model.prior_probs(latent.h), "sum")
    assert torch.isfinite(kl).all()

    def choose(obs: torch.Tensor, avail: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        assert avail is not None and avail.any(-1).all()
        act = avail.float().argmax(-1)
        return act, act, torch.zeros(act.shape)

    rollout = imagine(agent.model, latent_h, latent.z[:, -1].detach(), choose, 9, torch.Generator().manual_seed(0))
    assert rollout.features.shape == (5, 10, n, 48) and rollout.rew.shape == rollout.con.shape == (5, 9)
    assert torch.isfinite(rollout.obs).all() and ((0 < rollout.con) & (rollout.con < 1)).all()


def test_what_observations_are_normalised_by_is_what_numpy_says_of_all_that_were_seen() -> None:
    agent, replay = agent_and_replay(settings("toy/dials", world_model__normalise_obs=True))
    pieces = [np.random.default_rng(seed).normal(seed, 1 + seed, (rows, 3, 6)) for seed, rows in enumerate((5, 1, 40))]
    for piece in pieces:
        agent.model.measure(torch.from_numpy(piece.astype(np.float32)))
    every = np.concatenate(pieces)
    assert agent.model.obs_mean.numpy() == pytest.approx(every.mean(0), abs=1e-5)
    assert agent.model.obs_std.numpy() == pytest.approx(every.std(0), abs=1e-4)


def test_what_observations_are_normalised_by_stays_while_they_are_masked() -> None:
    """Else the frozen policy would see the world in another scale than it learned in."""
    agent, replay = agent_and_replay(settings("toy/dials", world_model__normalise_obs=True))
    agent.update(replay, Generators(0), 2, 0)
    before = [agent.model.obs_mean.clone(), agent.model.obs_std.clone(), agent.model.obs_count.clone()]
    assert before[2] > 0
    agent.update(replay, Generators(1), 2, 0, lambda b, t: np.ones((b, t, 3), bool))
    after = [agent.model.obs_mean, agent.model.obs_std, agent.model.obs_count]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    agent.update(replay, Generators(2), 2, 0)
    assert not torch.equal(before[0], agent.model.obs_mean)


def test_observations_are_normalised_by_the_rows_that_exist() -> None:
    agent, replay = agent_and_replay(settings("toy/clock", world_model__normalise_obs=True))
    w = agent.config.world_model
    drawn = replay.sample(w.batch, w.length, Generators(0).numpy["replay"], w.pad_ends)
    agent.update(replay, Generators(0), 1, 0)
    rows = drawn.obs[drawn.row]
    assert agent.model.obs_count == len(rows) < drawn.row.size
    assert np.allclose(agent.model.obs_mean, rows.mean(0), atol=1e-6)
    assert np.allclose(agent.model.obs_std, rows.std(0).clip(1e-2), atol=1e-4)


def test_masks_are_drawn_for_windows_as_long_as_execution_looks_back() -> None:
    agent, replay = agent_and_replay(settings("toy/lights", execution__history=5))
    asked: list[tuple[int, int]] = []

    def mask(batch: int, length: int) -> Bools:
        asked.append((batch, length))
        return np.ones((batch, length, 3), bool)

    agent.update(replay, Generators(0), 2, 0, mask)
    assert asked == 2 * [(agent.config.world_model.batch, 5 + 1)], "the steps and the present row"
