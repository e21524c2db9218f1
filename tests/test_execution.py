"""A team under observation loss (Algorithm 2, lines 28-39)."""

from typing import Any

import numpy as np
import pytest
import torch
from learning_cases import agent_and_replay, of_agent, settings

from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.envs.base import legalise
from rmiov2.envs.registry import make_env
from rmiov2.execution.communication import exchange
from rmiov2.execution.completion import Completion, Unrolled
from rmiov2.execution.history import History
from rmiov2.execution.team import MODES, Team
from rmiov2.seeding import Generators
from rmiov2.types import Actions, Bools, UserError
from rmiov2.world_model.rollout import observe


@pytest.fixture(scope="module")
def agent() -> RMIOv2:
    agent, replay = agent_and_replay(settings("toy/lights", execution__history=5))
    agent.update(replay, Generators(0), 30, 5)
    return agent


def played(agent: RMIOv2, team: Team, seen: Bools, noise: float = 0.0) -> list[Actions]:
    """What the team does over seen (T, B, N); noise goes into what blind agents are handed, which nobody may read."""
    env = make_env("toy/lights", seen.shape[1])
    step, acts, rng = env.reset(3), [], np.random.default_rng(0)
    for arrived in seen:
        obs = np.where(arrived[..., None], step.obs, noise * rng.normal(size=step.obs.shape)).astype(np.float32)
        avail = np.where(arrived[..., None], step.avail, rng.random(step.avail.shape) < 0.5)
        acts.append(team.act(obs, seen=arrived, avail=avail, first=step.first))
        step = env.step(legalise(acts[-1], step.avail, env.spec))
    return acts


@pytest.mark.parametrize("mode", MODES)
def test_with_every_eye_open_the_team_is_the_plain_policy_and_asks_nobody(agent: RMIOv2, mode: str) -> None:
    team = agent.team(4, 0, mode)
    if team._completion is not None:
        team._completion.present = None  # type: ignore[method-assign,assignment]
    acts = played(agent, team, np.ones((20, 4, 3), bool))
    env, memory, rng = make_env("toy/lights", 4), agent.start(4), np.random.default_rng(0)
    step = env.reset(3)
    for act in acts:
        plain, memory = agent.act(memory, step.obs, step.avail, step.first, rng, greedy=True)
        assert np.array_equal(act, plain)
        step = env.step(plain)
    assert not team.messages.any() and not team.bytes.any()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_a_lost_observation_or_its_mask_reaches_a_decision(agent: RMIOv2, mode: str) -> None:
    seen = np.random.default_rng(1).random((20, 4, 3)) < 0.5
    one, other = (played(agent, agent.team(4, 0, mode), seen, noise) for noise in (0.0, 9.0))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_blind_agent_acts_on_what_the_model_makes_of_the_window(agent: RMIOv2) -> None:
    """Within the first l steps the window is the episode: the same as unrolling the model over all of it."""
    env, team, rng = make_env("toy/lights", 2), agent.team(2, 0), np.random.default_rng(2)
    step, rows, arrived, acts = env.reset(0), [], [], []
    for _ in range(5):
        seen = rng.random((2, 3)) < 0.5
        seen[0, 0], seen[1, 1] = False, False
        rows.append(np.where(seen[..., None], step.obs, 0).astype(np.float32))
        arrived.append(seen)
        act = team.act(step.obs, seen=seen, avail=step.avail, first=step.first)
        acts.append(act)
        obs, masks, done = (torch.from_numpy(np.stack(x, 1)) for x in (rows, arrived, acts))
        with torch.no_grad():
            latent = observe(agent.model, obs, masks.float(), done, agent.model.initial(torch.ones(2)), None)
            said = agent.model.predict.obs(latent.features[:, -1]).numpy()
        assert np.allclose(team.completed[~seen], said[~seen], atol=1e-5)
        assert np.array_equal(team.completed[seen], step.obs[seen])
        step = env.step(legalise(act, step.avail, env.spec))


def test_the_window_keeps_the_last_l_steps_and_forgets_at_an_episodes_beginning(agent: RMIOv2) -> None:
    spec, history = agent.spec, History.empty(agent.spec, 2, 3)
    first, seen = np.array([True, True]), np.ones((2, spec.num_agents), bool)
    for k in range(6):
        obs = np.full((2, spec.num_agents, spec.obs_dim), k, np.float32)
        history.saw(obs, seen, first if k == 0 else np.array([False, k == 4]))
        history.did(np.full((2, spec.num_agents), k))
    assert history.rows.tolist() == [4, 2] and history.start.tolist() == [False, True]
    assert history.obs[0, :, 0, 0].tolist() == [2, 3, 4, 5] and history.obs[1, :2, 0, 0].tolist() == [4, 5]
    assert history.act[0, :, 0].tolist() == [2, 3, 4, 5]
    assert history.seen.all(-1).sum(1).tolist() == [4, 2], "what nobody saw in this episode is told to nobody"


def seen_at_random(agent: RMIOv2, completion: Completion, rng: np.random.Generator, first: Bools) -> None:
    shape = (len(first), agent.spec.num_agents)
    seen = rng.random(shape) < 0.5
    completion.saw(rng.random((*shape, agent.spec.obs_dim)).astype(np.float32) * seen[..., None], seen, first)


@pytest.mark.parametrize("name", ["rmiov2", "rmio"])
def test_a_window_that_is_gone_on_with_says_what_one_unrolled_anew_says(name: str) -> None:
    """Three teams that begin and are asked at different steps, some past the window's length."""
    agent, replay = agent_and_replay(settings("toy/lights", **of_agent(name)))
    agent.update(replay, Generators(0), 20, 0)
    agent.update(replay, Generators(0), 20, 0, lambda b, t: np.random.default_rng(0).random((b, t, 3)) < 0.5)
    completion, rng = agent.completion(History.empty(agent.spec, 3, 4)), np.random.default_rng(1)
    history, went_on = completion.history, np.zeros(2, int)
    for step in range(40):
        seen_at_random(agent, completion, rng, (rng.random(3) < 0.15) | (step == 0))
        asked, anew = rng.random(3) < 0.5, agent.completion(history)
        if asked.any():
            went_on += [(asked & history.start & (completion.unrolled_rows > 0)).sum(), (asked & ~history.start).sum()]
            answers = [one.present(asked) for one in (completion, anew, completion)]
            for said in answers[1:]:
                np.testing.assert_allclose(said[0], answers[0][0], atol=1e-5)
                np.testing.assert_array_equal(said[1], answers[0][1])
        completion.did(rng.integers(agent.spec.act_dim, size=(3, 3)))
    assert (went_on > 5).all()


def test_a_step_costs_one_row_until_the_window_moves_on(agent: RMIOv2) -> None:
    rng, rows = np.random.default_rng(0), []

    def unroll(obs: torch.Tensor, *rest: torch.Tensor) -> Unrolled:
        rows.append(obs.shape[1])
        return agent.unroll(obs, *rest)

    completion = Completion(agent.model, unroll, History.empty(agent.spec, 2, 5), 0.1)
    for step in range(8):
        seen_at_random(agent, completion, rng, np.full(2, step == 0))
        if step != 3:
            completion.present(np.array([True, False]))
    assert rows == [1, 1, 1, 2, 1, 6, 6]


def test_messages_and_bytes_by_hand(agent: RMIOv2) -> None:
    """Three agents, one action byte a step. Window of 3 rows, 2 actions each; agents saw 3, 1 and 2 of the rows."""
    spec = agent.spec
    seen = np.array([[True, False, True], [True, True, True], [False, False, False]])
    window = np.zeros((3, 4, 3), bool)
    window[:, :3, 0], window[:, :1, 1], window[:, :2, 2] = True, True, True
    cost = exchange(seen, window, np.array([3, 3, 3]), spec)
    row = 4 * spec.obs_dim
    share = np.array([3 * row + 2, row + 2, 2 * row + 2])
    up, down = share[1] + share[2], share[0] + share[2]
    assert cost.messages.tolist() == [3, 0, 0], "two agents tell the coordinator, it tells the blind one"
    assert cost.bytes.tolist() == [up + down, 0, 0]


def test_a_team_counts_its_messages_and_begins_anew_with_the_episode(agent: RMIOv2) -> None:
    team, seen = agent.team(1, 0), np.array([[True, True, False]])
    obs, avail = np.zeros((1, 3, agent.spec.obs_dim), np.float32), np.ones((1, 3, agent.spec.act_dim), bool)
    for k in range(3):
        team.act(obs, seen=seen, avail=avail)
        assert team.messages.tolist() == [3 * (k + 1)] and team.bytes[0] > 0
    team.act(obs, seen=np.zeros((1, 3), bool), avail=avail)
    assert team.messages.tolist() == [9], "all blind: there is nobody to ask"
    team.act(obs, avail=avail, first=np.array([True]))
    assert team.messages.tolist() == [0] and team.bytes.tolist() == [0]


def test_last_seen_and_zeros_stand_in_as_they_say(agent: RMIOv2) -> None:
    rng = np.random.default_rng(0)
    obs, other = rng.random((2, 1, 3, agent.spec.obs_dim)).astype(np.float32)
    avail, blind = np.ones((1, 3, agent.spec.act_dim), bool), np.array([[True, False, True]])
    for mode, expected in (("last_seen", obs[0, 1]), ("zeros", np.zeros(agent.spec.obs_dim))):
        team = agent.team(1, 0, mode)
        team.act(obs, avail=avail)
        team.act(other, seen=blind, avail=avail)
        assert np.array_equal(team.completed[0, 1], expected) and np.array_equal(team.completed[0, 0], other[0, 0])


def asked(agent: RMIOv2, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The masks that the policy is handed from now on."""
    masks: list[Any] = []
    act = agent.act

    def spy(memory: Any, obs: Any, avail: Any, *rest: Any, **named: Any) -> Any:
        masks.append(avail)
        return act(memory, obs, avail, *rest, **named)

    monkeypatch.setattr(agent, "act", spy)
    return masks


def test_of_an_episode_that_is_over_nothing_was_last_seen(agent: RMIOv2, monkeypatch: pytest.MonkeyPatch) -> None:
    team, none, masks = agent.team(2, 0, "last_seen"), np.zeros((2, 3), bool), asked(agent, monkeypatch)
    obs, avail = np.ones((2, 3, agent.spec.obs_dim), np.float32), np.zeros((2, 3, agent.spec.act_dim), bool)
    avail[..., 2] = True
    team.act(obs, avail=avail)
    team.act(obs, seen=none, avail=~avail, first=np.array([False, True]))
    assert (team.completed[0] == 1).all() and not team.completed[1].any()
    assert np.array_equal(masks[-1][0], avail[0]) and masks[-1][1].all(), "it knows of nothing that it may not do"


@pytest.mark.parametrize("mode", MODES)
def test_a_blind_agent_knows_what_it_may_do_only_where_true_availability_is_asked_for(
    mode: str, agent: RMIOv2, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, masks = make_env("toy/lights", 4).reset(0), asked(agent, monkeypatch)
    seen = np.random.default_rng(0).random((4, 3)) < 0.5
    for told in (True, False):
        agent.team(4, 0, mode, true_availability=told).act(step.obs, seen, step.avail, step.first)
        assert step.avail is not None and np.array_equal(masks[-1][seen], step.avail[seen])
        assert np.array_equal(masks[-1], step.avail) is told


@pytest.mark.parametrize("threshold", [0.1, 0.6, 0.99])
def test_a_blind_agent_may_do_what_the_model_holds_likelier_than_is_set_and_the_likeliest_always(
    threshold: float,
) -> None:
    agent, _ = agent_and_replay(settings("toy/lights", execution__availability=threshold), sweeps=1)
    predict, logits = agent.model.predict.avail, np.array([3.0, 1.0, 0.0, 0.0, -1.0, -3.0])
    assert predict is not None
    with torch.no_grad():
        for parameter in predict.parameters():
            parameter.zero_()
        list(predict.parameters())[-1].copy_(torch.from_numpy(logits))
    completion = agent.completion(History.empty(agent.spec, 1, 5))
    seen_at_random(agent, completion, np.random.default_rng(0), np.ones(1, bool))
    _, mask = completion.present(np.ones(1, bool))
    expected = (1 / (1 + np.exp(-logits)) > threshold) | (logits == 3)
    assert mask is not None and all(np.array_equal(mine, expected) for mine in mask[0])


def test_completion_reads_in_the_scale_of_the_model_and_says_in_that_of_the_game(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent, replay = agent_and_replay(settings("toy/dials", world_model__normalise_obs=True, execution__history=5))
    agent.update(replay, Generators(0), 5, 0)
    mean, std = agent.model.obs_mean.numpy(), agent.model.obs_std.numpy()
    step, seen = make_env("toy/dials", 2).reset(0), np.array([[False, True, True], [True, False, True]])
    given: list[torch.Tensor] = []
    made: list[Unrolled] = []

    def unroll(obs: torch.Tensor, *rest: torch.Tensor) -> Unrolled:
        given.append(obs)
        made.append(RMIOv2.unroll(agent, obs, *rest))
        return made[-1]

    monkeypatch.setattr(agent, "unroll", unroll)
    team = agent.team(2, 0)
    team.act(step.obs, seen=seen, first=step.first)
    read, scaled = given[0][:, 0].numpy(), (step.obs - mean) / std
    assert np.allclose(read[seen], scaled[seen], atol=1e-5) and not np.allclose(read[seen], step.obs[seen], atol=0.1)
    with torch.no_grad():
        said = agent.model.predict.obs(made[0].features[:, -1]).numpy() * std + mean
    assert np.allclose(team.completed[~seen], (said * agent.spec.obs_mask)[~seen], atol=1e-5)
    assert np.array_equal(team.completed[seen], step.obs[seen])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"seen": np.ones((1, 2), bool)}, r"seen: got shape \(1, 2\), expected \(1, 3\)"),
        ({"seen": np.ones((1, 3))}, "seen: got dtype float64, expected bool"),
        ({"first": np.ones(1, int)}, "first: got dtype int64, expected bool"),
        ({"avail": None}, "discrete actions: pass avail"),
        ({"avail": np.ones((1, 3, 6))}, "avail: got dtype float64, expected bool"),
        ({"avail": np.arange(3)[:, None].repeat(6, 1)[None] != 1}, "avail: agent 1 of game 0 sees and can do nothing"),
        ({"obs": np.full((1, 3, 1), np.nan, np.float32)}, "obs: got shape"),
        ({"obs": [["far"]]}, "obs: got what is no array of numbers"),
        ({"obs": [10**400]}, "obs: got what is no array of numbers"),
        ({"obs": torch.zeros(1, 3, 15, requires_grad=True)}, "obs: got what is no array of numbers"),
        ({"seen": [[True], [True, False]]}, "seen: got what is no array of numbers"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(agent: RMIOv2, arguments: dict, sentence: str) -> None:
    good = {
        "obs": np.zeros((1, 3, agent.spec.obs_dim), np.float32),
        "avail": np.ones((1, 3, agent.spec.act_dim), bool),
    }
    with pytest.raises(UserError, match=sentence):
        agent.team(1, 0).act(**(good | arguments))


def test_a_nan_is_refused_from_an_agent_that_sees_and_ignored_from_one_that_does_not(agent: RMIOv2) -> None:
    obs, avail = np.zeros((1, 3, agent.spec.obs_dim), np.float32), np.ones((1, 3, agent.spec.act_dim), bool)
    for broken in (np.nan, np.inf, 1e38):
        obs[0, 1, 0] = broken
        with pytest.raises(UserError, match="from agent 1 of game 0"):
            agent.team(1, 0).act(obs, avail=avail)
        agent.team(1, 0).act(obs, seen=np.array([[True, False, True]]), avail=avail)


def test_any_numbers_are_an_observation_and_what_was_refused_was_no_step(agent: RMIOv2) -> None:
    """float64, whole numbers, lists, None where a sensor said nothing: all decide as float32 does."""
    plain, other, rng = agent.team(1, 0), agent.team(1, 0), np.random.default_rng(0)
    avail, seen = np.ones((1, 3, agent.spec.act_dim), bool), np.array([[True, True, False]])
    for step in range(4):
        obs = rng.integers(2, size=(1, 3, agent.spec.obs_dim))
        listed = obs.tolist()
        listed[0][2] = [None] * agent.spec.obs_dim
        with pytest.raises(UserError):
            other.act(listed, seen=seen.astype(int), avail=avail)
        given = (listed, obs, obs.astype(np.float64))[step % 3]
        act = plain.act(obs.astype(np.float32), seen=seen, avail=avail)
        assert np.array_equal(act, other.act(given, seen=seen, avail=avail.tolist()))
        assert np.array_equal(plain.completed, other.completed)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (np.zeros((1, 2), int), r"act: got shape \(1, 2\), expected \(1, 3\)"),
        (np.zeros((1, 3)), "act: got dtype float64, expected whole numbers"),
        (np.array([[0, 6, 0]]), r"act: got 6 from agent 1, expected 0..5"),
        (np.full((1, 3), -1), r"act: got -1 from agent 0, expected 0..5"),
    ],
)
def test_what_cannot_have_been_done_is_refused_and_changes_nothing(agent: RMIOv2, act: Actions, sentence: str) -> None:
    team, avail = agent.team(1, 0), np.ones((1, 3, agent.spec.act_dim), bool)
    with pytest.raises(UserError, match="before any step"):
        team.did(np.zeros((1, 3), int))
    chosen = team.act(np.zeros((1, 3, agent.spec.obs_dim)), avail=avail)
    with pytest.raises(UserError, match=sentence):
        team.did(act)
    assert team._completion is not None and np.array_equal(team._completion.history.act[0, 0], chosen[0])


def test_what_was_done_is_within_each_agents_own_width_and_takes_what_float64_clips() -> None:
    agent, _ = agent_and_replay(settings("toy/dials"))
    assert agent.spec.act_widths == (1, 1, 2) and not agent.spec.discrete
    team, done = agent.team(1, 0), np.zeros((1, 3, 2))
    team.act(np.zeros((1, 3, agent.spec.obs_dim)))
    done[0, :, 0], done[0, 2, 1] = 1 + 1e-12, -1
    team.did(done)
    done[0, 1, 1] = 0.5
    with pytest.raises(UserError, match=r"act: got 0.5 from agent 1, expected 0..0"):
        team.did(done)


def test_a_team_that_is_not_greedy_draws_its_actions(agent: RMIOv2) -> None:
    obs, avail = np.zeros((400, 3, agent.spec.obs_dim)), np.ones((400, 3, agent.spec.act_dim), bool)
    assert len(np.unique(agent.team(400, 0).act(obs, avail=avail)[:, 0])) == 1
    assert len(np.unique(agent.team(400, 0, greedy=False).act(obs, avail=avail)[:, 0])) > 1


def test_an_unknown_mode_is_refused(agent: RMIOv2) -> None:
    with pytest.raises(UserError, match="expected one of completion, zeros, last_seen"):
        agent.team(1, 0, "guess")
