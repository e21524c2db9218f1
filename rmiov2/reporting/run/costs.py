"""What a method costs beside its training: messages and bytes of its teams, and the parameters it has.

Milliseconds per update are not among it. A stage's wall time holds play, evaluation, and whatever else the machine did
(one and the same training took 594 s and 2831 s); `python -m benchmarks --only methods` measures updates side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from rmiov2.types import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

COUNTED = ("messages", "bytes")
# Parts of a checkpoint's agent that hold no parameters but what is counted, copied or carried while learning.
STATISTICS = ("value_norm", "return_scale", "actor_mean")
BUFFERS = ("width_mask", "positions", "obs_mean", "obs_std", "obs_count")  # of a network, beside its parameters
LEARNS_ONLY = ("critic", "mixer", "predictor")  # parts that no game is played with
MODEL = ("model", "correction")  # parts played with where the team completes, or its agents read what others tell them


def costs(episodes: DataFrame, checkpoint: Path) -> dict[str, Any]:
    """What is kept of a run: {"p_loss", "messages", "bytes": [by p_loss], "parameters": {PART: n}}; see below."""
    return {**communication(episodes), "parameters": parameters(checkpoint)}


def own_per_step(episodes: DataFrame) -> DataFrame:
    """The episodes of the agent's own mode under the headline measure, messages and bytes per environment step."""
    completes = bool((episodes["mode"] == "completion").any())
    played = episodes[episodes["mode"] == ("completion" if completes else "zeros")]
    if "availability" in played:  # the leaking variant is played too, and costs the same
        played = played[played["availability"] == "lost"]
    return played.assign(**{name: played[name] / played["length"] for name in COUNTED})


def communication(episodes: DataFrame) -> dict[str, list[float]]:
    """Messages and bytes of a team per environment step, mean over the episodes of each p_loss."""
    means = own_per_step(episodes).groupby("p_loss")[list(COUNTED)].mean()
    return {"p_loss": means.index.tolist(), **{name: means[name].tolist() for name in COUNTED}}


def parameters(checkpoint: Path) -> dict[str, int]:
    """How many trainable numbers each part of the agent has; a mixer is a part of its own.

    Read from the header of the file, of which no tensor is loaded. Optimisers, target networks and running statistics
    are left out. Raises UserError if the file is missing or is not a checkpoint.
    """
    counts: Counter[str] = Counter()
    for name, shape in _shapes(checkpoint).items():
        agent, _, inside = name.strip("/").partition("/")
        part, _, rest = inside.partition("/")
        carried = part in STATISTICS or part.endswith("optimiser") or part.startswith("target")
        if agent != "agent" or not rest or carried or rest.rsplit(".", 1)[-1] in BUFFERS:
            continue
        counts["mixer" if rest.startswith("mixer.") else part] += prod(shape)
    return dict(counts)


def trained(cost: Mapping[str, Any]) -> int:
    """The parameters of the whole agent, from what costs gave."""
    return sum(cost["parameters"].values())


def played(cost: Mapping[str, Any], own: str) -> int:
    """Those of the parts that play in the mode own: the policy, and the world model where it answers or is listened to.

    It is if the team completes, or if its agents talk at all: their policies then read the model's latent state.
    """
    modelled = own == "completion" or any(cost["messages"])
    unused = LEARNS_ONLY if modelled else LEARNS_ONLY + MODEL
    return sum(n for part, n in cost["parameters"].items() if part not in unused)


def _shapes(checkpoint: Path) -> dict[str, list[int]]:
    """Of every tensor, by its name."""
    if not checkpoint.is_file():
        raise UserError(f"no checkpoint at {checkpoint}; write it with `dvc repro finetune`")
    try:
        with safe_open(checkpoint, "np") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}
    except SafetensorError as error:
        raise UserError(f"{checkpoint} is no checkpoint ({error}); make it again") from error
