"""What is told of a world model is what it thought when it played, and a picture of it says no more than that."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_run import robot_scene, smax_scene, without_completion
from torch import nn

from pipelines.params import compose_values
from rmiov2.agents.registry import make_agent
from rmiov2.config import parse
from rmiov2.envs.observation_loss import ObservationLoss
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.episodes import turns
from rmiov2.evaluation.insight import Insight, Modelled, windows
from rmiov2.evaluation.scene import Noted, record_scene
from rmiov2.reporting.scene.attention_figure import _map, attention_picture, looked_at
from rmiov2.reporting.scene.battle_map import draw_moment, grown, shape_of
from rmiov2.reporting.scene.figures import reward_picture
from rmiov2.reporting.scene.map_figure import map_picture
from rmiov2.reporting.style import MUTED, canvas, styled

LENGTH = 12  # of toy/lights, and more than the toy preset's history


def untrained(*overrides: str, agent: str = "rmiov2") -> Any:
    config = parse(compose_values(["preset=toy", "env=toy_lights", f"agent={agent}", *overrides]), "test")
    made = make_agent(config, make_env("toy/lights", 1).spec)
    if agent != "mappo":
        with torch.no_grad():  # as if it had learned: what is seen must make a difference, and a clear one
            for parameter in made.model.parameters():
                parameter.mul_(3)
    return made


def played(agent: Any) -> tuple[Insight, Any, Any]:
    """One episode under loss, the observations acted on, and who saw."""
    env, team = ObservationLoss(make_env("toy/lights", 1), "independent", 0.6), Noted(agent.team(1, 0))
    obs, seen, act, completed = [], [], [], []
    for turn, _ in zip(turns(env, team, 5), range(LENGTH), strict=False):
        obs.append(turn.step.obs[0])
        seen.append(turn.step.seen[0])
        act.append(team.chosen[0].copy())
        completed.append(team.team.completed[0].copy())
    return Insight(agent, np.stack(obs), np.stack(seen), np.stack(act)), np.stack(completed), np.stack(seen)


def test_the_windows_are_those_that_were_completed() -> None:
    """What M says of the windows is what blind agents acted on, also where a window no longer reaches the beginning."""
    agent = untrained("execution.history=6")
    insight, completed, seen = played(agent)
    said, _ = agent.completion(insight.windows).every_row()
    present = said[np.arange(LENGTH), insight.windows.rows - 1]
    assert (~seen).any() and not insight.windows.start.all()
    assert present[~seen] == pytest.approx(completed[~seen], abs=1e-3)  # batches of other shapes


def test_nothing_unseen_is_in_a_window() -> None:
    obs, seen = np.ones((4, 3, 15), np.float32), np.zeros((4, 3), bool)
    seen[1, 2] = True
    kept = windows(make_env("toy/lights", 1).spec, 2, obs, seen, np.arange(12).reshape(4, 3))
    assert kept.rows.tolist() == [1, 2, 3, 3] and kept.start.tolist() == [True, True, True, False]
    assert kept.obs.sum(axis=(2, 3)).tolist() == [[0, 0, 0], [0, 15, 0], [0, 15, 0], [15, 0, 0]]
    assert kept.act[3].tolist()[:2] == [[3, 4, 5], [6, 7, 8]]


def test_attention_is_a_share_and_that_of_equal_tokens_is_even() -> None:
    agent = untrained()
    weights = played(agent)[0].attention()
    assert weights is not None and weights.shape == (LENGTH, 3, 3)
    assert weights.sum(axis=-1) == pytest.approx(np.ones((LENGTH, 3)), abs=1e-5) and np.ptp(weights) > 0.1
    (layer,) = agent.model.observation_fusion
    nn.init.zeros_(layer.qkv.weight)
    nn.init.zeros_(layer.qkv.bias)
    assert played(agent)[0].attention() == pytest.approx(np.full((LENGTH, 3, 3), 1 / 3), abs=1e-6)


def test_of_several_layers_the_attention_of_the_first_is_told() -> None:
    agent = untrained("world_model.fusion_layers=2")
    first, _ = agent.model.observation_fusion
    nn.init.zeros_(first.qkv.weight)
    nn.init.zeros_(first.qkv.bias)
    assert played(agent)[0].attention() == pytest.approx(np.full((LENGTH, 3, 3), 1 / 3), abs=1e-6)


def test_attention_tells_who_is_blind_where_the_mask_bit_decides() -> None:
    """Queries all alike, keys that hold the mask bit alone: then every agent looks at those that see."""
    agent = untrained("world_model.agent_ids=false", "world_model.fusion_heads=1")
    model, width = agent.model, agent.config.world_model.hidden
    (layer,) = model.observation_fusion
    with torch.no_grad():
        for part in (
            *model.encoder.parameters(),
            model.obs_in.weight,
            model.obs_in.bias,
            layer.qkv.weight,
            layer.qkv.bias,
        ):
            part.zero_()
        model.mask_in.weight.zero_()
        model.mask_in.weight[1, 0] = 1.0  # who sees has a one in the first place of its token
        layer.qkv.bias[0] = 8 * width**0.5
        layer.qkv.weight[width, 0] = 1.0
    insight, _, seen = played(agent)
    weights, some = insight.attention(), seen.any(axis=1)
    assert weights is not None and some.any() and not some.all()
    expected = np.where(seen, np.e**8, 1.0)[:, None] / np.where(seen, np.e**8, 1.0).sum(axis=1)[:, None, None]
    assert weights == pytest.approx(np.broadcast_to(expected, weights.shape), abs=1e-5)


def test_without_a_fusion_there_is_no_attention_and_without_a_model_no_insight() -> None:
    assert played(untrained("ablation=no_observation_fusion"))[0].attention() is None
    assert not isinstance(untrained(agent="mappo"), Modelled)
    corrected, _, _ = played(untrained(agent="rmio"))
    assert corrected.attention() is None and corrected.samples(2, 0) is None


def test_samples_are_of_the_latent_state_and_the_same_again() -> None:
    insight, _, _ = played(untrained())
    samples = insight.samples(5, 3)
    assert samples is not None and samples.shape == (5, LENGTH, 3, 15)
    assert np.array_equal(samples, insight.samples(5, 3)) and not np.array_equal(samples, insight.samples(5, 4))
    assert np.ptp(samples, axis=0).max() > 1e-3


def test_the_scene_is_the_same_with_and_without_insight_but_for_what_insight_adds() -> None:
    def trend(rew: Any) -> Any:
        return rew, np.zeros(len(rew))

    agent = untrained()
    make = lambda: (make_env("toy/lights", 1), agent.team(1, 0), 0.6, 4, trend)  # noqa: E731
    plain = record_scene(*make())
    rich = record_scene(*make(), look=lambda obs, seen, act: Insight(agent, obs, seen, act))
    assert json.loads(json.dumps(rich)) == rich
    attention, spread = rich.pop("attention"), rich["series"].pop("spread")
    assert (
        rich == plain and np.shape(attention) == (12, 3, 3) and np.shape(spread) == np.shape(plain["series"]["truth"])
    )


@pytest.mark.parametrize("make", [smax_scene, robot_scene])
def test_the_picture_says_whom_the_blind_look_at(make: Any) -> None:
    scene = make(np.random.default_rng(3))
    with styled():
        picture = attention_picture(scene)
        assert attention_picture(without_completion(scene)) is None
        assert attention_picture({**scene, "seen": np.ones_like(scene["seen"], bool).tolist()}) is None
    assert picture is not None
    told = json.loads(picture.data)
    assert 1 < len(told["moments"]) <= 3
    for moment in told["moments"]:
        assert moment["attention"] == scene["attention"][moment["step"]]
        assert any(moment["seen"]) and not all(moment["seen"])
    paid, even = (
        np.array([[np.nan if v is None else v for v in values] for values in told[part].values()])
        for part in ("paid_by_a_blind_agent", "even_share")
    )
    some = np.isfinite(paid[0])
    assert (paid[0][some] > even[0][some]).all() and (paid[1][some] < even[1][some]).sum() == np.isfinite(paid[1]).sum()
    seeing = f"agents that see {np.nanmean(paid[0]):.2f} ({np.nanmean(even[0]):.2f})"
    assert seeing in picture.caption, "the invented weights favour who sees"


def test_what_those_who_see_get_is_summed_and_set_against_their_even_share() -> None:
    """Of three agents one sees, then two: whoever is blind gives them all it has, an even share a third and two."""
    scene = robot_scene(np.random.default_rng(3), steps=20, agents=3)
    seen = np.ones((20, 3), bool)
    seen[4], seen[9] = [True, False, False], [True, False, True]
    weights = seen[:, None] / seen.sum(axis=1)[:, None, None] * np.ones((20, 3, 1))
    with styled():
        picture = attention_picture({**scene, "seen": seen.tolist(), "attention": weights.tolist()})
    assert picture is not None
    told = json.loads(picture.data)
    paid, even = told["paid_by_a_blind_agent"], told["even_share"]
    assert [paid["seeing"][t] for t in (3, 4, 9)] == [None, 1, 1]
    assert [even["seeing"][t] for t in (3, 4, 9)] == [None, 0.33333, 0.66667]
    assert [paid["blind"][t] for t in (4, 9)] == [0, None] and even["blind"][4] == 0.33333
    assert "agents that see 1.00 (0.50), other blind agents 0.00 (0.33), itself 0.00 (0.33)" in picture.caption


@pytest.mark.parametrize(("agents", "said"), [(3, "0.33"), (5, "0.2"), (7, None)])
def test_weights_are_written_as_finely_as_they_fit(agents: int, said: str | None) -> None:
    with styled():
        axes = canvas().add_subplot()
        _map(axes, np.full((agents, agents), 1 / agents), [True] * agents, 0)
    assert {text.get_text() for text in axes.texts} == ({said} if said else set())


def test_every_panel_of_a_map_has_a_bar_as_long_as_it_says() -> None:
    scene = smax_scene(np.random.default_rng(3))
    with styled():
        axes = canvas().add_subplot()
        axes.set_xlim(0, 12)
        axes.set_ylim(3, 15)
        draw_moment(axes, scene, 8, None)
    (bar,) = [line for line in axes.get_lines() if line.get_color() == MUTED and len(line.get_xydata()) == 2]
    assert np.ptp(bar.get_xdata()) == 5 and np.ptp(bar.get_ydata()) == 0
    assert min(bar.get_ydata()) > 3 and max(bar.get_xdata()) < 12
    assert [text.get_text() for text in axes.texts] == ["5 units"]


def test_only_living_blind_lookers_count_and_nobody_twice() -> None:
    seen = np.array([[True, False, False, True], [False, False, False, False]])
    alive = np.array([[True, True, True, False], [True, True, True, True]])
    who = looked_at(seen, alive, np.array([0]))
    assert [tuple(pair) for pair in np.argwhere(who["seeing"])] == [(0, 1, 0), (0, 2, 0)]
    assert [tuple(pair) for pair in np.argwhere(who["blind"])] == [(0, 1, 2), (0, 2, 1)]
    assert [tuple(pair) for pair in np.argwhere(who["itself"])] == [(0, 1, 1), (0, 2, 2)]


def test_the_map_says_how_sure_it_is() -> None:
    scene = smax_scene(np.random.default_rng(3))
    with styled():
        sure, unsure = (map_picture({**scene, "map": m}) for m in (
            {name: value for name, value in scene["map"].items() if name != "spread"}, scene["map"]))  # fmt: skip
    assert sure is not None and unsure is not None and "Discs" not in sure.caption
    assert "on average 0.60 and 0.10 of full health" in unsure.caption and sure.png != unsure.png


def test_a_window_that_never_opens_is_called_so_and_shown_free_of_the_scale() -> None:
    scene = smax_scene(np.random.default_rng(3))
    raw = scene["reward"]["raw"]
    shut = {"raw": raw, "trend": raw, "half_width": [0] * len(raw)}
    free = {"trend": [sum(raw) / len(raw)] * len(raw), "half_width": [0, 5] + [1] * (len(raw) - 2)}
    with styled():
        plain, both = (reward_picture({**scene, "reward": r}) for r in (shut, shut | {"normalised": free}))
    assert plain is not None and both is not None
    assert "never opens" in plain.caption and "dashed" not in plain.caption
    assert "(dashed) 0 to 5" in both.caption
    header, *rows = both.data.decode().splitlines()
    assert header == "step,raw,trend,half_width,trend_normalised,half_width_normalised" and len(rows) == len(raw)


def test_a_map_that_is_grown_holds_what_it_held() -> None:
    wide, tall = ((0.0, 10.0), (2.0, 4.0)), ((0.0, 2.0), (0.0, 10.0))
    for frame, shape in product((wide, tall), (0.5, 1.0, 3.0)):
        (left, right), (low, high) = limits = grown(frame, shape)
        assert shape_of(limits) == pytest.approx(shape)
        assert left <= frame[0][0] and right >= frame[0][1] and low <= frame[1][0] and high >= frame[1][1]
        tight = right - left == pytest.approx(frame[0][1] - frame[0][0])
        assert tight or high - low == pytest.approx(frame[1][1] - frame[1][0]), "no larger than it must be"
