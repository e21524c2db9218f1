"""The sections of params.yaml, named after the stages and the parts that read them; what each key means.

There are no defaults here: params.yaml is complete, so that what ran is what can be read.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rmiov2.config.agents import Agent
from rmiov2.config.section import Count, NonNegative, Positive, Probability, Rate, Section

BEFORE: dict[str, Any] = {  # of settings that were kept without these
    "device": "cpu", "precision": "float32", "stress": {"blackout": (1,), "episodes": 1},
    "world_model": {"foresight": 0.0, "pad_ends": False}, "policy": {"average": 0.0},
}  # fmt: skip
PATTERNS = ("independent", "bursty", "one_agent", "whole_team")
NUMBERED = re.compile(r"bursty:[1-9][0-9]*|one_agent:[0-9]+")


def loss_pattern(text: str) -> tuple[str, int | None]:
    """One of PATTERNS and the number that bursty:STEPS or one_agent:AGENT say; raises ValueError for another text."""
    if text in PATTERNS or NUMBERED.fullmatch(text):
        name, _, number = text.partition(":")
        return name, int(number) if number else None
    raise ValueError(f"expected one of {', '.join(PATTERNS)}, bursty:STEPS or one_agent:AGENT")


def _is_known(text: str) -> str:
    loss_pattern(text)
    return text


Pattern = Annotated[str, AfterValidator(_is_known)]


class Env(Section):
    name: str = Field(description="suite/map, for instance smax/3m")


class WorldModel(Section):
    deter: Positive = Field(description="D, width of h")
    categoricals: Positive = Field(description="C")
    classes: Annotated[int, Field(gt=1)] = Field(description="K")
    hidden: Positive = Field(description="width of every hidden layer")
    layers: Positive = Field(description="hidden layers of encoder, decoder and heads")
    observation_fusion: bool = Field(description="eq. (2a); false: every agent encodes alone")
    action_fusion: bool = Field(description="eq. (2b); false: every agent steps alone")
    fusion_layers: Positive = Field(description="Transformer layers of each fusion")
    fusion_heads: Positive
    fusion_ffn: Count = Field(description="width of the feed-forward part of a fusion layer; 0 as in eq. (5)")
    agent_ids: bool = Field(description="a learned embedding of the agent's index; false: equal under permutation")
    mask_bit: bool = Field(description="tell the fusion, and RMIO's correction, which observations arrived")
    start_bit: bool = Field(description="a learned first h where a sequence begins an episode; false: zeros always")
    unimix: Probability = Field(description="share of a uniform mixed into prior and posterior")
    kl_scale: NonNegative = Field(description="lambda of eq. (7)")
    kl_balance: Probability = Field(description="weight of KL(sg post || prior); the rest goes to KL(post || sg prior)")
    free_nats: NonNegative = Field(description="KL below this costs nothing")
    kl_reduction: Literal["sum", "mean"] = Field(description="over the C categoricals")
    foresight: NonNegative = Field(
        description="weight of reward and continuation read off what the prior draws, too, some steps after the last"
        " observation, as imagination reads them; 0: off the posterior alone"
    )
    normalise_obs: bool = Field(description="running mean and deviation of the real observations")
    batch: Positive = Field(description="B, sequences of an update")
    length: Annotated[int, Field(gt=1)] = Field(description="T, rows of a sequence")
    pad_ends: bool = Field(
        description="a sequence may go on beyond the end of its episode, padded, so that an end may be at any row;"
        " false: it is moved inside, where the end of a longer episode is always at the last row"
    )
    lr: Rate
    grad_clip: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _heads(self) -> WorldModel:
        if self.hidden % self.fusion_heads:
            raise ValueError(f"fusion_heads: got {self.fusion_heads}, expected a divisor of hidden = {self.hidden}")
        return self


class RewardTrend(Section):
    mode: Literal["conserving", "paper", "fixed", "off"]
    beta: NonNegative = Field(description="eq. (11)")
    h_base: Positive = Field(description="half-width of the window whose variance is taken, eq. (10)")
    h_min: Count
    h_max: Count
    sigma: Annotated[float, Field(gt=0)] = Field(description="deviation of the Gaussian kernel, in half-widths")
    normalise: bool = Field(description="divide the variance by that of all rewards")

    @model_validator(mode="after")
    def _ordered(self) -> RewardTrend:
        if self.h_min > self.h_max:
            raise ValueError(f"h_min: {self.h_min} is above h_max: {self.h_max}")
        return self


class Policy(Section):
    hidden: Positive = Field(description="width of actor and its memory")
    agent_ids: bool = Field(description="show every agent its index")
    critic_hidden: Positive
    horizon: Positive = Field(description="H, imagined steps")
    starts: Positive = Field(description="states from which one policy round imagines")
    gamma: Rate
    lam: Probability = Field(description="lambda of the GAE")
    clip: Annotated[float, Field(gt=0)]
    entropy: NonNegative
    e_sample: Positive = Field(description="PPO passes over one pseudo buffer")
    minibatches: Positive
    lr_actor: Rate
    lr_critic: Rate
    grad_clip: Annotated[float, Field(gt=0)]
    huber: Annotated[float, Field(gt=0)] = Field(description="delta of the value loss")
    value_norm: bool
    return_norm: bool = Field(
        description="divide advantages by the running spread of returns; false: standardise each batch"
    )
    return_floor: Annotated[float, Field(gt=0)] = Field(description="the spread is never taken below this")
    unimix: Probability = Field(description="share of a uniform over the available actions")
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="share of itself that the mean of the actor's weights keeps in a policy round; the mean plays where"
        " the likeliest actions are taken; 0: the actor itself"
    )


class Collect(Section):
    num_envs: Positive = Field(description="games side by side")
    warmup_steps: Positive = Field(description="environment steps of random play that fill the first buffer")
    capacity: Positive = Field(description="environment steps that the replay holds")


class Pretrain(Section):
    env_steps: Positive = Field(description="environment steps, warm-up included")
    segment: Positive = Field(
        description="steps between two trainings; an episode that ends earlier ends it, or, on-policy, another begins"
    )
    e_m: Annotated[float, Field(gt=0, le=1000)] = Field(
        description="E_M, updates from the replay per environment step: of the world model, or of Q and actor; those"
        " who learn from blind play keep to it in masked fine-tuning, too"
    )
    e_pi: Annotated[float, Field(ge=0, le=1000)] = Field(
        description="E_pi, policy rounds per environment step; on-policy methods have their own"
    )
    anneal: Rate = Field(description="share of rates and entropy left at the end; they fall over the second half")
    policy_after: Count = Field(description="environment steps before the policy begins to learn")
    eval_every: Positive = Field(description="environment steps between two points of the learning curve")
    eval_episodes: Positive


class Finetune(Section):
    p_mask: Probability
    vary_p_mask: bool = Field(
        description="draw the rate of each sequence or game evenly, as far around p_mask as 0 and 1 allow"
    )
    pattern: Pattern = Field(
        description="whose observations get lost together and for how long: rmiov2.envs.observation_loss.LossPattern"
    )
    updates: Positive = Field(description="masked updates: of the world model, of RMIO's correction, or of the policy")
    env_steps: Count = Field(
        description="environment steps collected on the way; those who learn from blind play take as many as that needs"
    )
    lr: Rate
    anneal: Rate = Field(description="share of lr left at the end; it falls over the second half")
    held_out_episodes: Positive = Field(description="fresh episodes on which L_rec is measured")


class Execution(Section):
    completion: bool = Field(description="blind agents act on what theirs reconstructs, if it can; false: on zeros")
    history: Positive = Field(description="l, steps that the world model is unrolled over")
    availability: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="a blind agent may try what is likelier than this"
    )


class Evaluate(Section):
    p_loss: tuple[Probability, ...] = Field(min_length=2)
    pattern: Pattern = Field(description="as finetune.pattern")
    episodes: Positive = Field(description="per value of p_loss and mode")
    num_envs: Positive
    seed: Count = Field(description="its own seed: training never sees these games")
    bootstrap: Positive = Field(description="resamples of the interval")

    @model_validator(mode="after")
    def _grid(self) -> Evaluate:
        if list(self.p_loss) != sorted(set(self.p_loss)) or self.p_loss[0] != 0 or self.p_loss[-1] != 1:
            raise ValueError(f"p_loss: got {list(self.p_loss)}, expected a rising grid from 0 to 1")
        return self


class Stress(Section):
    blackout: tuple[Positive, ...] = Field(min_length=1, description="steps that whole-team blackouts last, rising")
    history: tuple[Positive, ...] = Field(  # none, too, of teams that were kept before it was there
        (), description="memories that the same team is given, in steps, rising; none: its own alone"
    )
    episodes: Positive = Field(description="per mode, loss, and rate or length of it")

    @model_validator(mode="after")
    def _rising(self) -> Stress:
        for name, lengths in (("blackout", self.blackout), ("history", self.history)):
            if list(lengths) != sorted(set(lengths)):
                raise ValueError(f"{name}: got {list(lengths)}, expected rising lengths")
        return self


class Ablate(Section):
    p_mask: tuple[Probability, ...] = Field(min_length=1, description="masking rates that are compared, table 2")
    updates: Positive = Field(description="masked updates of each")
    episodes: Positive = Field(description="per value of p_loss")


class Report(Section):
    scene_seed: Count = Field(description="of the episode that is drawn")
    scene_p_loss: Probability


class Config(Section):
    """Everything of a run; see params.yaml for the values and conf/ for where they come from."""

    seed: Count
    preset: str
    threads: Annotated[int, Field(gt=0, le=1024)] = Field(
        description="torch threads; more than the idle cores destroys small products"
    )
    device: Literal["cpu", "cuda"] = Field(description="where networks live; environments stay on the CPU")
    precision: Literal["float32", "tf32"] = Field(description="of a GPU's products; tf32 has 10 bits of mantissa")
    env: Env
    agent: Agent
    world_model: WorldModel
    reward_trend: RewardTrend
    policy: Policy
    collect: Collect
    pretrain: Pretrain
    finetune: Finetune
    execution: Execution
    evaluate: Evaluate
    stress: Stress
    ablate: Ablate
    report: Report
