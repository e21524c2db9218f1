"""The section `agent`: what a method has of its own, beside the sections that all share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from rmiov2.config.section import Count, NonNegative, Positive, Probability, Rate, Section


class AgentSection(Section):
    """`ignores`: what the method never reads of the sections world_model, policy and pretrain; "world_model" is all."""

    ignores: ClassVar[tuple[str, ...]] = ()

    @property
    def label(self) -> str:
        """What results call it."""
        return label_of(vars(self))


class RMIOv2(AgentSection):
    """And its forerunners GAWM and RMIO: what tells them apart stands in the other sections, see conf/agent."""

    name: Literal["rmiov2", "gawm", "rmio"]


class MAPPO(AgentSection):
    """Yu et al. 2022; what it shares with r-MAPPO in imagination stands in policy, where e_sample is its epochs."""

    ignores = (
        "world_model", "policy.horizon", "policy.starts", "policy.return_norm", "policy.return_floor", "policy.average",
        "pretrain.e_m", "pretrain.e_pi", "pretrain.policy_after",
    )  # fmt: skip
    name: Literal["mappo"]
    recurrent: bool = Field(description="actor and critic remember; false: perceptrons")
    layers: Count = Field(description="hidden layers after the first")
    gain: Annotated[float, Field(gt=0)] = Field(description="of the orthogonal weights that give logits or means")
    std: Annotated[float, Field(gt=0)] = Field(description="of continuous actions, to begin with")
    chunk: Positive = Field(description="rows through which gradients flow back")
    own_obs: bool = Field(description="the critic sees each agent's observation beside the state; zeros when dead")
    value_clip: bool = Field(description="the clipped value loss, at policy.clip")
    value_norm_decay: Rate


class QMIX(AgentSection):
    """Rashid et al. 2018; its discount, lambda, widths, rates and clipping stand in policy."""

    ignores = (
        "world_model", "policy.critic_hidden", "policy.horizon", "policy.starts", "policy.clip", "policy.entropy",
        "policy.e_sample", "policy.minibatches", "policy.lr_actor", "policy.huber", "policy.value_norm",
        "policy.return_norm", "policy.return_floor", "policy.unimix", "policy.average",
    )  # fmt: skip
    name: Literal["qmix"]
    mixer: Positive = Field(description="width of the monotone mixer")
    hyper: Positive = Field(description="hidden width of the networks that make the mixer's weights")
    optimiser: Literal["adam", "rmsprop"]
    batch: Positive = Field(description="episodes of an update")
    target_every: Positive = Field(description="updates between two copies to the target networks")
    epsilon_start: Probability
    epsilon_end: Probability
    epsilon_steps: Positive = Field(description="environment steps in which epsilon falls")


class FACMAC(AgentSection):
    """Peng et al. 2021; its discount, lambda, widths, rates and clipping stand in policy."""

    ignores = (
        "world_model", "policy.horizon", "policy.starts", "policy.clip", "policy.entropy", "policy.e_sample",
        "policy.minibatches", "policy.huber", "policy.value_norm", "policy.return_norm", "policy.return_floor",
        "policy.unimix", "policy.average",
    )  # fmt: skip
    name: Literal["facmac"]
    monotone: bool = Field(description="the mixer's weights are kept positive, as QMIX's")
    mixer: Positive = Field(description="width of the mixer of the agents' critics")
    hyper: Positive = Field(description="hidden width of the networks that make the mixer's weights")
    batch: Positive = Field(description="episodes of an update; with continuous actions transitions")
    target_every: Positive = Field(description="updates between two moves of the target networks")
    tau: Rate = Field(description="share of the way that the target networks move")
    adam_eps: Annotated[float, Field(gt=0)]
    regulariser: NonNegative = Field(description="weight of the mean squared action in the actor's loss")
    noise: NonNegative = Field(description="deviation of the noise on continuous actions")
    epsilon_start: Probability = Field(description="of discrete actions")
    epsilon_end: Probability
    epsilon_steps: Positive = Field(description="environment steps in which epsilon falls")


class LatentPolicy(AgentSection):
    """What MAMBA and MAG have in common; the rest of it stands in world_model and policy."""

    ignores = ("world_model.foresight", "policy.agent_ids", "policy.return_norm", "policy.return_floor")
    action_information: NonNegative = Field(description="weight of saying the last action from the decoded observation")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(description="of the action fusion, while M learns")
    actor_layers: Positive = Field(description="hidden layers of the actor")
    weight_decay: NonNegative = Field(description="of the actor")
    entropy_decay: Rate = Field(description="share of policy.entropy that is left after every minibatch")
    masked_rounds: NonNegative = Field(
        description="policy rounds per masked update, which changes what the policy reads"
    )


class MAMBA(LatentPolicy):
    """Egorov & Shpilman 2022."""

    name: Literal["mamba"]


class MAG(LatentPolicy):
    """Wu et al. 2023: MAMBA that goes where its model is least wrong."""

    name: Literal["mag"]
    candidates: Annotated[int, Field(gt=1)] = Field(description="next states of which one is chosen")
    look_ahead: Positive = Field(description="steps over which their predicted errors are added up, their own included")
    chosen_by: Literal["sample", "batch"] = Field(description="one winner for every imagined team, or one for all")
    lr_predictor: Rate


def class_path(text: str) -> str:
    """The text, if it is a MODULE:CLASS; raises ValueError if not."""
    if re.fullmatch(r"\w+(\.\w+)*:\w+", text):
        return text
    raise ValueError("expected MODULE:CLASS, for instance own_method:Independent of examples/own_method.py")


class Own(AgentSection):
    """A method of the user's, a class outside this package; it says itself what its settings are (Agent.Settings)."""

    name: Literal["own"]
    method: Annotated[str, AfterValidator(class_path)] = Field(description="MODULE:CLASS, an rmiov2.agents.base.Agent")
    settings: dict[str, JsonValue] = Field(description="what its class reads; what is left out, it knows")


def label_of(agent: Mapping[str, Any]) -> str:
    """What results call the method of a section `agent`: its name or, of a user's own, the name of its class."""
    return str(agent["method"]).partition(":")[2] if agent["name"] == "own" else str(agent["name"])


Agent = Annotated[RMIOv2 | MAPPO | QMIX | FACMAC | MAMBA | MAG | Own, Field(discriminator="name")]
