"""The recorded computations of MAMBA and MAG as ours reads them: agents with their weights, and their batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from golden import Golden
from learning_cases import composed
from torch import Tensor, nn

from rmiov2.agents.registry import agent_class
from rmiov2.types import EnvSpec

ENCODER = {f"encoder.{k}": f"encoder.{k + 2}" for k in (0, 2, 4)} | {"fc1": "encoder.0"}
DECODER = {f"fc1.{k}": f"predict.obs.{k}" for k in (0, 2, 4)} | {"fc2": "predict.obs.6"}
LAYER = {
    "self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "out.", "linear1.": "mlp.0.", "linear2.": "mlp.2.",
    "norm1.": "norm.", "norm2.": "mlp.3.",
}  # fmt: skip
MODEL = {
    **{f"observation_encoder.{old}": new for old, new in ENCODER.items()},
    **{f"observation_decoder.{old}": new for old, new in DECODER.items()},
    **{f"transition._cell.{kind}_{side}h_l0": f"gru.{kind}_{side}h" for kind in ("weight", "bias") for side in "ih"},
    **{
        f"transition._attention_stack.encoder.layers.{k}.{old}": f"action_fusion.{k}.{new}"
        for k in range(3)
        for old, new in LAYER.items()
    },
    "transition._rnn_input_model.0.bias": "z_in.bias", "transition._stochastic_prior_model.dists": "prior",
    "representation._stochastic_posterior_model.dists.0.bias": "obs_in.bias",
    "representation._stochastic_posterior_model.dists.2": "posterior.1", "reward_model.model": "predict.rew.each",
    "pcont.model": "predict.con.each", "av_action.model": "predict.avail", "q_features.model": "predict.act.features",
    "q_action": "predict.act.act",
}  # fmt: skip
CRITIC = {
    "embed": "each", "feedforward_model": "value",
    **{f"_attention_stack.encoder.layers.0.{old}": f"fuse.{new}" for old, new in LAYER.items()},
}  # fmt: skip
JOINT = ("transition._rnn_input_model.0.weight", "representation._stochastic_posterior_model.dists.0.weight")
READ_FEATURES = (
    "predict.obs.0.weight", "predict.rew.each.0.weight", "predict.con.each.0.weight", "predict.avail.0.weight",
    "body.0.weight", "each.weight", "0.weight",
)  # fmt: skip


class Case:
    """What one file holds, and an agent of ours with its weights."""

    def __init__(self, name: str, *overrides: str) -> None:
        self.golden = Golden(name)
        s = self.settings = self.golden.settings
        width, teams = s["HIDDEN"], s["HORIZON"] - 1
        config = composed(
            "preset=toy", "env=toy_lights", f"agent={name}_paper", f"world_model.deter={s['DETERMINISTIC']}",
            f"world_model.categoricals={s['N_CATEGORICALS']}", f"world_model.classes={s['N_CLASSES']}",
            f"world_model.hidden={width}", f"world_model.fusion_ffn={width}", f"policy.hidden={width}",
            f"policy.critic_hidden={width}", f"policy.horizon={teams}", f"policy.gamma={s['GAMMA']}", *overrides,
        )  # fmt: skip
        n, actions = self.golden["batch/observation"].shape[2], s["ACTION_SIZE"]
        self.spec = EnvSpec(
            name="golden", num_agents=n, obs_dim=s["IN_DIM"], obs_widths=(s["IN_DIM"],) * n, act_dim=actions,
            act_widths=(actions,) * n, discrete=True, state_dim=0, episode_limit=30, measure="step_return",
        )  # fmt: skip
        self.agent: Any = agent_class(name)(config, self.spec, 0)
        self.load(self.agent.model, self.model("model"))
        self.load(self.agent.actor, self.actor("actor"))
        self.load(self.agent.critic, self.critic("critic"))
        if name == "mag":
            self.load(self.agent.predictor, self.predictor("predictor"))

    def load(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Every parameter of the module, and no other."""
        parameters = dict(module.named_parameters())
        assert parameters.keys() == weights.keys()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])

    def model(self, prefix: str) -> dict[str, Tensor]:
        """Weights or gradients of the world model; a joint layer of theirs is two of ours."""
        theirs = self.golden.under(prefix)
        act, obs = (theirs.pop(name) for name in JOINT)
        split = {
            "act_in.weight": act[:, : self.spec.act_dim].T, "z_in.weight": act[:, self.spec.act_dim :],
            "obs_in.weight": obs[:, : self.settings["DETERMINISTIC"]],
            "token_in.weight": obs[:, self.settings["DETERMINISTIC"] :],
        }  # fmt: skip
        return self.ours(theirs, MODEL) | split

    def actor(self, prefix: str) -> dict[str, Tensor]:
        return self.ours(self.golden.under(prefix), {"feedforward_model": "body"})

    def critic(self, prefix: str) -> dict[str, Tensor]:
        return self.ours(self.golden.under(prefix), CRITIC)

    def predictor(self, prefix: str) -> dict[str, Tensor]:
        return self.ours(self.golden.under(prefix), {"model.": ""})

    def ours(self, theirs: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
        """By our names; where theirs reads (z, h), ours reads (h, z)."""
        found, z = {}, self.settings["STOCHASTIC"]
        for name, value in theirs.items():
            old = max((old for old in names if name.startswith(old)), key=len)
            mine = names[old] + name[len(old) :]
            found[mine] = torch.cat([value[:, z:], value[:, :z]], 1) if mine in READ_FEATURES else value
        return found

    def batch(self) -> dict[str, Tensor]:
        """Theirs knows of a row what led to it; ours, what it leads to."""
        there = self.golden.under("batch")
        later: Callable[[Tensor], Tensor] = lambda x: torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)  # noqa: E731
        steps = torch.ones(there["done"].shape[:2])
        steps[:, -1] = 0
        return {
            "obs": there["observation"], "shown": there["observation"], "avail": there["av_action"],
            "act": later(there["action"]).argmax(-1), "before": there["action"][:, 0],
            "trend": later(there["reward"])[:, :, 0, 0], "con": later(1 - there["done"])[:, :, 0, 0],
            "row": steps, "step": steps, "real": 1 - there["fake"][:, :, 0, 0], "start": torch.zeros(len(steps)),
        }  # fmt: skip

    def generator(self, further: int = 0) -> torch.Generator:
        """Draws the noise that was recorded with."""
        return torch.Generator().manual_seed(self.settings["seed"] + further)
