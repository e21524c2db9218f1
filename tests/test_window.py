"""A decision from a window: what a remembering team does, as long as the window reaches back to the beginning."""

from dataclasses import replace

import numpy as np
import pytest
from learning_cases import agent_and_replay, composed, settings
from windows import opinionated, record

from rmiov2.agents.registry import make_agent
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.envs.registry import make_env
from rmiov2.execution.window import Window, decide
from rmiov2.seeding import Generators
from rmiov2.types import Actions, UserError


def trained(env: str, history: int, **changes) -> RMIOv2:
    agent, replay = agent_and_replay(settings(env, execution__history=history, **changes))
    agent.update(replay, Generators(0), 20, 0)
    return opinionated(agent)


@pytest.fixture(scope="module")
def lights() -> RMIOv2:
    return trained("toy/lights", 30)


@pytest.mark.parametrize("p_loss", [0.0, 0.5, 1.0])
def test_discrete_windows_decide_as_the_team_that_remembers(lights: RMIOv2, p_loss: float) -> None:
    recorded = record(lights, 4, 60, p_loss)
    assert recorded.windows.start.all() and recorded.age.max() > 10
    act, completed = decide(lights, recorded.windows)
    assert np.array_equal(act, recorded.act) and len(np.unique(act)) > 2
    assert np.allclose(completed, recorded.completed, atol=1e-5)


def test_continuous_windows_decide_as_the_team_that_remembers() -> None:
    agent = trained("toy/dials", 60, world_model__normalise_obs=True)
    recorded = record(agent, 3, 40, 0.5)
    act, completed = decide(agent, recorded.windows)
    assert np.allclose(act, recorded.act, atol=1e-5) and np.allclose(completed, recorded.completed, atol=1e-4)
    assert np.ptp(act) > 0


def test_a_team_goes_on_from_what_it_is_told_was_done_as_the_window_that_holds_it_does(lights: RMIOv2) -> None:
    """Every other choice is replaced: completion knows nothing of what was chosen, and all of what was done."""
    actions = np.random.default_rng(0)

    def instead(act: Actions) -> Actions:
        return np.where(actions.random(act.shape) < 0.5, actions.integers(lights.spec.act_dim, size=act.shape), act)

    recorded = record(lights, 4, 40, 0.5, instead=instead)
    act, completed = decide(lights, recorded.windows)
    assert np.array_equal(act, recorded.act) and np.allclose(completed, recorded.completed, atol=1e-5)


@pytest.mark.parametrize("name", ["mamba", "qmix", "facmac_discrete"])
def test_a_memory_of_actions_holds_what_was_done(name: str) -> None:
    agent = make_agent(composed("env=toy_lights", f"agent={name}", "preset=toy"), make_env("toy/lights", 1).spec)
    team, actions = agent.team(2, 0), agent.spec.act_dim
    chosen = team.act(np.zeros((2, 3, agent.spec.obs_dim)), avail=np.ones((2, 3, actions), bool))
    assert np.array_equal(team._memory.act.argmax(-1), chosen)
    team.did((chosen + 1) % actions)
    assert np.array_equal(team._memory.act.argmax(-1), (chosen + 1) % actions)


def test_when_the_window_no_longer_reaches_back_only_the_policys_memory_is_shorter() -> None:
    """The reconstruction is the team's own, which looks no further back either."""
    agent = trained("toy/lights", 4)
    recorded = record(agent, 4, 30, 0.6)
    late = recorded.age > 4
    assert late.any() and not recorded.windows.start[late].any()
    _, completed = decide(agent, recorded.windows)
    assert np.allclose(completed, recorded.completed, atol=1e-5)


def test_each_window_is_decided_for_itself(lights: RMIOv2) -> None:
    windows = record(lights, 2, 25, 0.5).windows
    together, _ = decide(lights, windows)
    for index in (0, 7, 49):
        alone = Window(*(part[index : index + 1] for part in vars(windows).values()))
        assert np.array_equal(decide(lights, alone)[0][0], together[index])


def test_what_lies_beyond_the_present_row_and_what_is_unknown_is_not_looked_at(lights: RMIOv2) -> None:
    windows = record(lights, 2, 5, 0.5).windows
    obs, act, avail = windows.obs.copy(), windows.act.copy(), windows.avail.copy()
    for b, rows in enumerate(windows.rows):
        obs[b, rows:], act[b, rows - 1 :] = 7.0, 99
        avail[b, np.isnan(obs[b, rows - 1]).all(-1)] = 3.0
    one, other = decide(lights, windows), decide(lights, replace(windows, obs=obs, act=act, avail=avail))
    assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_an_agent_that_does_not_reconstruct_acts_on_zeros_and_claims_nothing(lights: RMIOv2) -> None:
    class Plain(RMIOv2):
        capabilities = replace(RMIOv2.capabilities, reconstructs=False)

    plain = Plain(lights.config, lights.spec, 0)
    plain.load_state_dict(lights.state_dict())
    recorded = record(plain, 4, 40, 0.5, mode="zeros")
    act, completed = decide(plain, recorded.windows)
    present = recorded.windows.obs[np.arange(len(act)), recorded.windows.rows - 1]
    assert np.array_equal(act, recorded.act) and np.isnan(present).any()
    assert np.array_equal(completed, present, equal_nan=True)
    assert np.array_equal(np.nan_to_num(completed), recorded.completed)


@pytest.mark.parametrize(
    ("part", "change", "sentence"),
    [
        ("obs", lambda x: x[:, 1:], r"obs: got shape \(8, 30, 3, 15\), expected \(8, 31, 3, 15\)"),
        ("obs", lambda x: np.full_like(x, np.inf), "obs: got a value beyond 1e"),
        ("obs", lambda x: np.where(np.arange(15) == 1, np.nan, 0 * np.nan_to_num(x)), "lost in part"),
        ("act", lambda x: x + 99, "act: got 1.*, expected 0"),
        ("avail", lambda x: x * 0, "can do nothing"),
        ("avail", lambda x: x * 2, "something else than 0 and 1"),
        ("rows", lambda x: x * 0, r"rows: got 0\.\.0, expected 1\.\.31"),
        ("start", lambda x: x[:, None], "start: got shape"),
    ],
)
def test_a_window_that_cannot_be_is_refused(lights: RMIOv2, part: str, change, sentence: str) -> None:
    windows = record(lights, 2, 4, 0.0).windows
    with pytest.raises(UserError, match=sentence):
        decide(lights, replace(windows, **{part: change(getattr(windows, part))}))


def test_no_window_is_refused(lights: RMIOv2) -> None:
    windows = record(lights, 1, 1, 0.0).windows
    with pytest.raises(UserError, match="no window"):
        decide(lights, Window(*(part[:0] for part in vars(windows).values())))
