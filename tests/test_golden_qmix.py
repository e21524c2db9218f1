"""One update of QMIX is that of its reference implementations, pymarl and pymarl2, number for number."""

import pytest
import torch
from golden import Golden
from golden_cases import MIXER, RECURRENT, close, gradients, spec_of, weights, windows_of
from off_policy_cases import settings

from rmiov2.agents.qmix import QMIX
from rmiov2.agents.qmix.losses import best, own_values, td_loss, td_target

# pymarl2 takes half of the squared error: with half the clip that is, for its optimiser, the same.
CASES = [("qmix_onestep", "qmix_classic", 0.0, 1.0), ("qmix_td_lambda", "qmix", 0.6, 0.5)]


def agent_of(case: Golden, preset: str, lam: float, half: float) -> QMIX:
    s = case.settings
    config = settings(
        preset, "toy/lights", f"policy.hidden={s['rnn_hidden_dim']}", f"agent.mixer={s['mixing_embed_dim']}",
        f"agent.hyper={s['hypernet_embed']}", f"policy.gamma={s['gamma']}", f"policy.lam={lam}",
        f"policy.lr_critic={s['lr']}", f"policy.grad_clip={s['grad_norm_clip'] / half}",
    )  # fmt: skip
    agent = QMIX(config, spec_of(case), 0)
    for net, prefix in ((agent.online, ""), (agent.target, "target_")):
        net.agents.load_state_dict(weights(case, f"{prefix}agent", RECURRENT))
        net.mixer.load_state_dict(weights(case, f"{prefix}mixer", MIXER))
    return agent


@pytest.mark.parametrize(("name", "preset", "lam", "half"), CASES)
def test_values_targets_loss_and_gradients_are_the_reference_s(name: str, preset: str, lam: float, half: float) -> None:
    case = Golden(name)
    agent = agent_of(case, preset, lam, half)
    w, gamma = windows_of(case), case.settings["gamma"]
    there, row = w.step > 0, torch.cat([torch.ones_like(w.step[:, :1]), w.step], 1) > 0
    q = own_values(agent.online, w)
    assert close(q[row], case["out/q"][row])
    assert torch.equal(best(q, w.avail)[:, 1:][there], case["out/next_action"][there])
    assert close(td_target(agent.target, w, q.detach(), gamma, lam)[there], case["out/target"][there])
    loss, _ = td_loss(agent.online, agent.target, w, gamma, lam)
    assert close(half * loss, case["out/td_loss"])
    assert close(gradients(half * loss, agent.online.agents), weights(case, "grad/agent", RECURRENT))
    assert close(gradients(half * loss, agent.online.mixer), weights(case, "grad/mixer", MIXER))


@pytest.mark.parametrize(("name", "preset", "lam", "half"), CASES)
def test_the_weights_after_an_update_are_the_reference_s(name: str, preset: str, lam: float, half: float) -> None:
    case = Golden(name)
    agent = agent_of(case, preset, lam, half)
    told = agent.learn(windows_of(case), 1.0)
    assert close(half * told["grad_norm_q"], case["out/grad_norm"])
    assert close(agent.online.agents.state_dict(), weights(case, "after/agent", RECURRENT))
    assert close(agent.online.mixer.state_dict(), weights(case, "after/mixer", MIXER))
