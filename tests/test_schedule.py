"""When training stages learn, how much, and at which rates: owed updates, annealing, masked rounds."""

from typing import Any

import numpy as np
import pytest
from learning_cases import composed, random_games
from test_training import begun, tiny

from rmiov2.agents import imagined_ppo, mappo
from rmiov2.agents.optimiser import Optimiser
from rmiov2.agents.registry import make_agent
from rmiov2.envs.registry import make_env
from rmiov2.seeding import Generators
from rmiov2.training.finetune import ROUNDS, Finetuning
from rmiov2.training.pretrain import Pretraining, annealed, replay_of
from rmiov2.types import Bools

Rates = dict[str, float]
MODEL, FINE, ACTOR, CRITIC, PREDICTOR = 1e-3, 2e-4, 3e-3, 4e-3, 5e-3
IMAGINED = {"model": MODEL, "actor": ACTOR, "critic": CRITIC}
PLAYED = {"actor": ACTOR, "critic": CRITIC}
# What each method moves, and how fast, in plain and in masked updates.
METHODS: dict[str, tuple[Rates, Rates]] = {
    "rmiov2": (IMAGINED, {"model": FINE}),
    "rmio": (IMAGINED, {"correction": FINE}),
    "mamba": (IMAGINED, {"model": FINE}),
    "mag": (IMAGINED | {"predictor": PREDICTOR}, {"model": FINE, "predictor": PREDICTOR}),
    "mappo": (PLAYED, PLAYED),
    "qmix": ({"online": CRITIC}, {"online": CRITIC}),
    "facmac_discrete": (PLAYED, PLAYED),
}


def method(name: str, *overrides: str) -> Any:
    rates = [f"policy.lr_actor={ACTOR}", f"policy.lr_critic={CRITIC}", f"world_model.lr={MODEL}", f"finetune.lr={FINE}"]
    own = [f"agent.lr_predictor={PREDICTOR}"] if name == "mag" else []
    config = composed("preset=toy", "env=toy_lights", f"agent={name}", *rates, *own, *overrides)
    return make_agent(config, make_env("toy/lights", 1).spec)


def everybody(batch: int, length: int) -> Bools:
    return np.ones((batch, length, 3), bool)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_every_rate_is_its_setting_times_the_scale_and_masked_updates_have_that_of_fine_tuning(
    name: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, step = method(name, "policy.e_sample=1", "policy.minibatches=1"), Optimiser.step
    used: dict[Any, float] = {}

    def spy(optimiser: Optimiser, loss: Any, clip: float, lr: float) -> Any:
        used[optimiser.module] = lr
        return step(optimiser, loss, clip, lr)

    monkeypatch.setattr(Optimiser, "step", spy)
    rounds = agent.capabilities.on_policy or not (agent.capabilities.model_free or masked)
    replay = replay_of(random_games("toy/lights", 4), agent.spec)
    agent.update(replay, Generators(0), 1, int(rounds), everybody if masked else None, scale=0.5)
    wanted = {getattr(agent, part): rate / 2 for part, rate in METHODS[name][masked].items()}
    assert used == pytest.approx(wanted), "nothing else moves"


@pytest.mark.parametrize(
    ("name", "module", "decay"), [("rmiov2", imagined_ppo, 1.0), ("mamba", imagined_ppo, 0.9), ("mappo", mappo, 1.0)]
)
def test_the_bonus_of_entropy_falls_with_the_rates_and_mamba_s_with_every_minibatch(
    name: str, module: Any, decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["agent.entropy_decay=0.9"] if name == "mamba" else []
    agent = method(name, "policy.entropy=0.04", "policy.e_sample=2", "policy.minibatches=2", *own)
    bonus, loss = [], module.actor_loss

    def spy(actor: Any, buffer: Any, clip: float, entropy: float) -> Any:
        bonus.append(entropy)
        return loss(actor, buffer, clip, entropy)

    monkeypatch.setattr(module, "actor_loss", spy)
    agent.update(replay_of(random_games("toy/lights", 4), agent.spec), Generators(0), 0, 1, scale=0.5)
    assert bonus == pytest.approx([0.02 * decay**k for k in range(4)])


def test_rates_stay_for_half_a_stage_and_then_fall_to_their_end() -> None:
    shares = [annealed(progress, 0.2) for progress in (0, 0.25, 0.5, 0.75, 1, 2)]
    assert shares == pytest.approx([1, 1, 1, 0.6, 0.2, 0.2])


class Asked:
    """In place of an agent's update: what it was asked for."""

    def __init__(self, run: Pretraining | Finetuning, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models: list[int] = []
        self.policies: list[int] = []
        self.scales: list[float] = []
        self.masked: list[bool] = []
        monkeypatch.setattr(run.agent, "update", self)

    def __call__(
        self, replay: Any, rngs: Any, models: int, policies: int, mask: Any = None, scale: float = 1.0
    ) -> dict[str, float]:
        self.models.append(models)
        self.policies.append(policies)
        self.scales.append(scale)
        self.masked.append(mask is not None)
        return {}


def test_updates_are_owed_to_the_fraction_and_the_policy_s_from_policy_after_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny(
        pretrain__e_m=0.3, pretrain__e_pi=0.2, pretrain__policy_after=70, pretrain__env_steps=140, pretrain__anneal=0.2
    )
    run, _ = begun(config, [])
    asked = Asked(run, monkeypatch)
    for _ in range(20):
        run.env_steps += 7
        run.learn([], 7)
    assert np.abs(np.cumsum(asked.models) - 0.3 * 7 * np.arange(1, 21)).max() < 1
    assert not any(asked.policies[:9]) and sum(asked.policies) == int(0.2 * 77)
    assert asked.scales == pytest.approx([min(1.0, 1 - 0.8 * (2 * k / 20 - 1)) for k in range(1, 21)])


def test_fine_tuning_shares_its_masked_updates_out_and_lets_their_rate_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = begun(tiny(finetune__updates=50, finetune__anneal=0.2), random_games("toy/lights", 2))
    run.held_out, asked = None, Asked(run, monkeypatch)
    while run.rounds < ROUNDS:
        run.round()
    assert sum(asked.models) == 50 and set(asked.models) == {2, 3} and not any(asked.policies) and all(asked.masked)
    assert asked.scales == pytest.approx([min(1.0, 1 - 0.8 * (2 * k / ROUNDS - 1)) for k in range(ROUNDS)])


def test_no_two_purposes_draw_the_same_numbers() -> None:
    rngs = Generators(0)
    assert len({rng.random() for rng in rngs.numpy.values()}) == len(rngs.numpy) > 1
    assert len({rngs.env_seed(0), rngs.env_seed(1), Generators(1).env_seed(0)}) == 3
