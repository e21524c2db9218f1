"""One update of FACMAC is that of its authors' implementation, number for number."""

import pytest
import torch
from golden import Golden
from golden_cases import MIXER, PERCEPTRON, RECURRENT, close, gradients, spec_of, weights, windows_of
from off_policy_cases import settings
from torch import Tensor

from rmiov2.agents.facmac import FACMAC
from rmiov2.agents.facmac.losses import actor_loss, critic_loss, td_target

CONTINUOUS = [("facmac_qmix", "true"), ("facmac_nonmonotonic", "false")]


def acting(case: Golden, module: str) -> dict[str, Tensor]:
    """Weights or gradients of an actor by the names that they have in ours."""
    return weights(case, module, RECURRENT if "gumbel" in case else PERCEPTRON, "body.")


def factored(case: Golden, prefix: str) -> dict[str, Tensor]:
    """Weights or gradients of critic and mixer by the names that they have in ours."""
    each = weights(case, f"{prefix}critic", PERCEPTRON, "each.")
    return each | weights(case, f"{prefix}mixer", MIXER, "mixer.")


def agent_of(case: Golden, preset: str, *overrides: str) -> FACMAC:
    s = case.settings
    config = settings(
        preset, "toy/lights", f"policy.hidden={s['rnn_hidden_dim']}", f"policy.critic_hidden={s['rnn_hidden_dim']}",
        f"agent.mixer={s['mixing_embed_dim']}", f"agent.hyper={s['hypernet_embed']}", f"policy.gamma={s['gamma']}",
        f"policy.lam={s.get('td_lambda', 0)}", f"policy.lr_actor={s['lr']}", f"policy.lr_critic={s['critic_lr']}",
        f"policy.grad_clip={s['grad_norm_clip']}", *overrides,
    )  # fmt: skip
    agent = FACMAC(config, spec_of(case), 0)
    for actor, critic, prefix in (
        (agent.actor, agent.critic, ""),
        (agent.target_actor, agent.target_critic, "target_"),
    ):
        actor.load_state_dict(acting(case, f"{prefix}agent"))
        critic.load_state_dict(factored(case, prefix))
    return agent


def compare_losses(agent: FACMAC, case: Golden) -> None:
    """Targets, the critic's loss and gradient; the actor's stand after the critic's step, so they come with it."""
    w, s = windows_of(case), case.settings
    there = w.step > 0
    y = td_target(agent.target_actor, agent.target_critic, w, s["gamma"], s.get("td_lambda", 0.0))
    assert close(y[there], case["out/target"][there])
    loss, _ = critic_loss(agent.critic, y, w)
    assert close(agent.critic(w.obs[:, :-1], w.act, w.state[:, :-1])[there], case["out/q_tot"][there])
    assert close(loss, case["out/critic_loss"])
    assert close(gradients(loss, agent.critic), factored(case, "grad/"))


def compare_update(agent: FACMAC, case: Golden, noise: Tensor | None) -> None:
    """The actor's loss and gradient by the critic that has moved, and every weight after one update."""
    w = windows_of(case)
    again = FACMAC(agent.config, agent.spec, 0)
    again.load_state_dict(agent.state_dict())
    told = agent.learn(w, noise, 1.0)
    assert close(told["grad_norm_critic"], case["out/critic_grad_norm"])
    assert close(told["grad_norm_actor"], case["out/actor_grad_norm"])
    assert close(told["actor_loss"], case["out/actor_loss"])
    assert close(agent.actor.state_dict(), acting(case, "after/agent"))
    assert close(agent.critic.state_dict(), factored(case, "after/"))
    f, actions = agent.settings, sum(agent.spec.act_widths)
    loss = actor_loss(again.actor, agent.critic, w, noise, f.regulariser, actions)
    assert close(gradients(loss, again.actor), acting(case, "grad/agent"))


@pytest.mark.parametrize(("name", "monotone"), CONTINUOUS)
def test_the_continuous_update_is_the_reference_s_with_either_mixer(name: str, monotone: str) -> None:
    case = Golden(name)
    agent = agent_of(case, "facmac", f"agent.monotone={monotone}")
    compare_losses(agent, case)
    compare_update(agent, case, None)
    assert close(agent.target_actor.state_dict(), acting(case, "after/target_agent"))
    assert close(agent.target_critic.state_dict(), factored(case, "after/target_"))


def test_the_discrete_update_is_the_reference_s() -> None:
    case = Golden("facmac_discrete")
    agent = agent_of(case, "facmac_discrete")
    w = windows_of(case)
    compare_losses(agent, case)
    out, _ = agent.actor(w.obs[:, :-1], w.before[:, :-1], agent.actor.initial(*w.obs.shape[0:3:2]))
    drawn = agent.actor.differentiable(out, w.avail[:, :-1], case["gumbel"])
    there = w.step > 0
    assert torch.allclose(drawn[there], case["out/policy_action"][there], atol=1e-6)
    compare_update(agent, case, case["gumbel"])
