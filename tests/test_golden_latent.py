"""MAMBA and MAG compute what their authors' own code did from the same weights, batch and noise: tests/golden."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_cases import close, gradients
from golden_latent import Case

from rmiov2.agents.mag import chosen
from rmiov2.policy.ppo import actor_loss, critic_loss
from rmiov2.types import Batch
from rmiov2.world_model.losses import model_errors, model_losses, total_loss
from rmiov2.world_model.sequences import sequences

BOTH = pytest.mark.parametrize("name", ["mamba", "mag"])


def test_every_term_of_the_world_model_s_loss_and_its_gradient_are_the_reference_s() -> None:
    case = Case("mamba")
    agent, batch, golden = case.agent, case.batch(), case.golden
    latent = agent.observe(batch, case.generator())
    last = golden["out/h"].shape[1]
    assert close(latent.h[:, :last], golden["out/h"]) and close(latent.z[:, :last], golden["out/z"])
    losses, _ = model_losses(agent.model, latent, batch)
    assert losses.keys() == {"obs", "rew", "con", "kl", "avail", "act"}
    assert [name for name, loss in losses.items() if not close(loss, golden[f"out/loss_{name}"])] == []
    loss = total_loss(losses, agent.config.world_model.kl_scale, agent.settings.action_information)
    assert close(loss, golden["out/loss_model"])
    assert close(gradients(loss, agent.model), case.model("grad/model"))


@BOTH
def test_imagination_returns_and_advantages_are_the_reference_s(name: str) -> None:
    """Of MAG each step is a search, one winner a batch as there."""
    case = Case(name, *(["agent.chosen_by=batch"] if name == "mag" else []))
    golden = case.golden.under("imagined")
    imagined = case.agent.imagine(case.golden["start/h"], case.golden["start/z"], case.generator(1))
    h, z = imagined.features.split([golden["h"].shape[-1], golden["z"].shape[-1]], -1)
    assert close(h, golden["h"]) and close(z, golden["z"])
    assert torch.equal(imagined.act, golden["act"]) and torch.equal(imagined.avail, golden["avail"])
    assert close(imagined.rew, golden["rew"]) and close(imagined.con, golden["con"])
    assert close(case.agent.critic(imagined.features.flatten(0, 1)).view_as(golden["value"]), golden["value"])
    pseudo = case.agent.pseudo(imagined)
    assert close(pseudo.returns.view_as(golden["returns"]), golden["returns"])
    assert close(pseudo.advantage.view_as(golden["advantage"]), golden["advantage"])


@BOTH
def test_losses_of_actor_and_critic_are_the_reference_s(name: str) -> None:
    case = Case(name, *(["agent.chosen_by=batch"] if name == "mag" else []))
    agent, p = case.agent, case.agent.config.policy
    pseudo = agent.pseudo(agent.imagine(case.golden["start/h"], case.golden["start/z"], case.generator(1)))
    case.load(agent.actor, case.actor("now"))
    loss, _ = actor_loss(agent.actor, pseudo, p.clip, case.settings["ENTROPY"])
    assert close(loss, case.golden["out/policy_loss"])
    assert close(gradients(loss, agent.actor), case.actor("grad/actor"))
    value = critic_loss(agent.critic, agent.value_norm, pseudo, p.huber)
    assert close(value, case.golden["out/value_loss"])
    if name == "mamba":
        assert close(gradients(value, agent.critic), case.critic("grad/critic"))


def test_the_predictor_learns_the_errors_that_the_reference_s_does() -> None:
    case = Case("mag")
    agent, batch = case.agent, case.batch()
    with torch.no_grad():
        errors, _ = model_errors(agent.model, agent.observe(batch, case.generator()), batch)
    label, where = agent.step_errors(errors, batch["step"])
    assert where.all() and close(label, case.golden["out/label"])
    for term, error in errors.items():  # a term of L_M that is new counts, too
        more, _ = agent.step_errors(errors | {term: error + 1}, batch["step"])
        assert not torch.equal(more, label), term
    loss = agent.predictor_loss(batch, case.generator())
    assert close(loss, case.golden["out/predictor_loss"])
    assert close(gradients(loss, agent.predictor), case.predictor("grad/predictor"))


def test_the_candidate_that_is_chosen_is_the_reference_s_and_each_sample_may_choose_its_own() -> None:
    case = Case("mag")
    agent, golden = case.agent, case.golden.under("search")
    case.load(agent.actor, case.actor("now"))
    with torch.no_grad():
        start, act = (case.golden["start/h"], case.golden["start/z"]), case.golden["imagined/act"][:, 0]
        h, drawn, errors = agent.candidates(*start, act, case.generator(2))
    assert close(h, golden["h"]) and close(drawn, golden["candidates"]) and close(errors, golden["errors"])
    assert close(errors.mean(1), golden["total"])
    of_all, of_each = chosen(errors, "batch"), chosen(errors, "sample")
    assert (of_all == golden["best"]).all() and len(of_each.unique()) > 1
    rows = torch.arange(len(of_all))
    assert close(drawn[of_all, rows], golden["z"]) and not close(drawn[of_each, rows], golden["z"])
    assert (errors[of_each, rows] == errors.min(0).values).all() and errors.min(0).values.mean() < errors.mean(1).min()


def test_absorbing_states_and_the_first_action_are_those_of_the_reference_s_memory() -> None:
    """Two windows of an episode that ended; the observation it ended with, which the reference never sees, is gone."""
    case = Case("mamba")
    episode, theirs = case.golden.under("episode"), case.batch()
    steps, rows = len(episode["act"]), 10
    final = torch.full_like(episode["obs"][:1], 9.0)
    obs, con = torch.cat([episode["obs"], final]).numpy(), np.ones(steps, np.float32)
    con[-1] = 0
    whole = {
        "obs": obs, "avail": torch.cat([episode["avail"], torch.ones_like(episode["avail"][:1])]).numpy(),
        "act": episode["act"].numpy(), "rew": episode["rew"].numpy(), "con": con,
    }  # fmt: skip
    for row, begin in enumerate(episode["begins"].tolist(), start=2):
        part = SimpleNamespace(**{name: window(value, begin, rows) for name, value in whole.items()})
        there = np.arange(begin, begin + rows)[None] <= steps
        step = np.concatenate([there[:, 1:], [[False]]], 1)
        batch = Batch(
            part.obs, part.avail | ~there[..., None, None], np.zeros((1, rows, 0), np.float32), part.act, part.rew,
            part.rew, part.con, there, step, np.zeros(1, bool),
        )  # fmt: skip
        mine = sequences(batch, case.spec, np.random.default_rng(0))
        for name in ("obs", "avail", "real", "step"):
            assert torch.equal(mine[name][0, :9], theirs[name][row]), name
        counted = theirs["step"][row].bool()
        for name in ("trend", "con"):
            assert torch.equal(mine[name][0, :9][counted], theirs[name][row][counted]), name
        acted = counted & theirs["real"][row].bool()  # in an absorbing state, at random
        assert torch.equal(mine["act"][0, :9][acted], theirs["act"][row][acted])
        assert torch.equal(mine["before"][0], theirs["before"][row])


def window(values: np.ndarray, begin: int, rows: int) -> np.ndarray:  # type: ignore[type-arg]
    """(1, rows, ...), zeros beyond the end."""
    cut = values[begin : begin + rows]
    return np.concatenate([cut, np.zeros((rows - len(cut), *values.shape[1:]), values.dtype)])[None]
