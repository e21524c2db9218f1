"""Figure 13 for each fusion: what is kept of an episode, and that like is laid beside like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import robot_scene, smax_scene, without_completion
from test_variants import kept_family, moment_of, of_kept

from rmiov2.files import write_json
from rmiov2.reporting.kept import read_kept
from rmiov2.reporting.scene.battle_map import distances
from rmiov2.reporting.scene.moment import column, telling_moment
from rmiov2.reporting.style import Picture, styled
from rmiov2.reporting.variants.moments_figure import moments_picture, of_one_seed
from rmiov2.reporting.words import significant
from rmiov2.types import UserError


def test_of_a_battle_the_step_is_kept_at_which_a_blind_agent_believes_most() -> None:
    scene = smax_scene(np.random.default_rng(3))
    for t, row in enumerate(scene["map"]["believed"]):  # nobody is believed, but by agent 1 at steps 7, 9 and 11
        for agent, views in enumerate(row):
            for unit, view in enumerate(views):
                believed = {7: (0, 3), 9: (0, 3, 4), 11: (0, 3, 4)}.get(t, ())
                view["visible"] = agent == 1 and unit in believed
    scene["seen"] = [[True, False, True] for _ in scene["seen"]]
    moment = telling_moment(scene)
    assert moment is not None and (moment["step"], moment["agent"], moment["seen"]) == (9, 1, [[True, False, True]])
    assert moment["map"]["units"] == [scene["map"]["units"][9]]
    assert moment["map"]["spread"]["place"] == [scene["map"]["spread"]["place"][9]]
    assert distances(moment, 0, 1) == distances(scene, 9, 1) and len(distances(scene, 9, 1)) == 3
    for sees, told in ((9, 11), (11, 7)):
        scene["seen"][sees][1] = True
        assert (telling_moment(scene) or {})["step"] == told


def test_of_a_robot_the_stretch_is_kept_of_the_first_agent_that_is_blind_in_it() -> None:
    scene = robot_scene(np.random.default_rng(0))
    scene["seen"] = [[t < 80, t % 5 > 0] for t in range(240)]
    moment = telling_moment(scene)
    assert moment is not None and (moment["agent"], moment["step"]) == (0, 80)
    scene["seen"] = [[t < 80 or t >= 160, t % 5 > 0] for t in range(240)]
    for row in scene["seen"][80:160]:
        row[0] = True
    moment = telling_moment(scene)
    assert moment is not None and moment["agent"] == 1
    names = scene["series"]["names"][1]
    truth, guess, blind = column(moment, names[1])
    assert truth.tolist() == np.asarray(scene["series"]["truth"])[80:160, 1, 1].tolist()
    assert guess.tolist() == np.asarray(scene["series"]["reconstruction"])[80:160, 1, 1].tolist()
    assert np.flatnonzero(blind).tolist() == list(range(0, 80, 5))


@pytest.mark.parametrize("make", [robot_scene, smax_scene])
def test_where_nothing_is_reconstructed_no_moment_is_kept(make: Callable[[np.random.Generator], Any]) -> None:
    scene = make(np.random.default_rng(0))
    assert telling_moment(without_completion(scene)) is None
    scene["seen"] = np.ones_like(scene["seen"], dtype=bool).tolist()
    assert telling_moment(scene) is None


def robots(kept: Path, moments: dict[str, dict[str, Any]]) -> Picture | None:
    """The picture of variants of which these moments of seed 0 were kept."""
    kept_family(kept, dict.fromkeys(moments, [0.5]))
    for part, moment in moments.items():
        write_json(kept / ("smax-3m" if part == "none" else f"smax-3m+{part}") / "seed-0/moment.json", moment)
    with styled():
        return moments_picture(of_kept(kept))


def stretch_of(first: int, length: int, names: list[str], agent: int = 0, error: float = 0.5) -> dict[str, Any]:
    truth = np.arange(length * len(names), dtype=float).reshape(length, -1)
    told = {"env": "smax/3m", "measure": "step_return", "p_loss": 0.6, "seed": 7, "agents": 2, "won": False}
    series = {"names": names, "truth": truth.tolist(), "reconstruction": (truth + error).tolist(),
              "blind": [t % 2 == 0 for t in range(length)]}  # fmt: skip
    return told | {"agent": agent, "step": first, "series": series}


def test_of_robots_the_same_columns_of_the_same_agent_are_compared(tmp_path: Path) -> None:
    picture = robots(tmp_path, {
        "none": stretch_of(80, 80, ["obs[1]", "obs[3]", "obs[4]"], error=0.25),
        "no_observation_fusion": stretch_of(0, 30, ["obs[3]", "obs[4]", "obs[9]"]),
        "no_action_fusion": stretch_of(0, 30, ["obs[3]", "obs[4]"], agent=1),
        "no_fusion": stretch_of(3, 40, ["obs[0]", "obs[3]", "obs[4]"], error=2.0),
    })  # fmt: skip
    assert picture is not None and picture.png != picture.narrow
    assert set(json.loads(picture.data)) == {"none", "no_observation_fusion", "no_fusion"}
    assert "for agent 1:" in picture.caption and "error of obs[3] and obs[4] while" in picture.caption
    told = {"whole method": 0.25, "no observation fusion": 0.5, "no fusion": 2.0}
    assert picture.caption.endswith("; ".join(f"{name} {significant(value)}" for name, value in told.items()) + ".")


def test_without_a_common_column_robots_are_not_compared(tmp_path: Path) -> None:
    assert robots(tmp_path, {"none": stretch_of(0, 9, ["a"]), "no_fusion": stretch_of(0, 9, ["b"])}) is None
    assert robots(tmp_path / "1", {"none": stretch_of(0, 9, ["a"]), "no_fusion": stretch_of(4, 9, ["a"])}) is not None


def test_of_variants_that_seed_is_shown_which_the_whole_method_has(tmp_path: Path) -> None:
    parts = {"none": [0.6, 0.6], "no_fusion": [0.1, 0.1, 0.1], "no_action_fusion": [0.3, 0.3, 0.3]}
    kept_family(tmp_path, parts)
    (tmp_path / "smax-3m/seed-0/moment.json").unlink()  # kept before there were any
    shown, seed = of_one_seed(of_kept(tmp_path))
    assert seed == 1 and shown == {part: moment_of(part, 1) for part in parts}
    (tmp_path / "smax-3m/seed-1/moment.json").unlink()
    assert of_one_seed(of_kept(tmp_path)) == ({}, 0) and moments_picture(of_kept(tmp_path)) is None


def test_discs_are_told_only_where_they_are_drawn(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.6], "no_fusion": [0.1]})
    with styled():
        sure = moments_picture(of_kept(tmp_path))
        path = tmp_path / "smax-3m+no_fusion/seed-0/moment.json"
        moment = json.loads(path.read_text())
        del moment["map"]["spread"]
        write_json(path, moment)
        unsure = moments_picture(of_kept(tmp_path))
    assert sure is not None and unsure is not None
    assert "Discs" in sure.caption and "Discs" not in unsure.caption


def test_a_damaged_moment_is_refused_in_a_sentence(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.6], "no_fusion": [0.1]})
    path = tmp_path / "smax-3m/seed-0/moment.json"
    moment = json.loads(path.read_text())
    del moment["map"]
    write_json(path, moment)
    with pytest.raises(UserError, match="moment.json lacks map or series"):
        list(read_kept(tmp_path))
