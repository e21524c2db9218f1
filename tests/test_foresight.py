"""examples/foresight.py: a model that knows its game foresees it, and one that is made too hopeful is told from it."""

from pathlib import Path

import foresight
import pytest
import torch
from learning_cases import agent_and_replay, random_games, settings

from rmiov2.replay import shards
from rmiov2.seeding import Generators
from rmiov2.training import checkpoint


def test_ends_and_rewards_are_foreseen_of_a_game_whose_ends_are_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """toy/clock pays its step's number and ends at random, which no observation tells beforehand."""
    config = settings("toy/clock", world_model__lr=3e-3)
    agent, replay = agent_and_replay(config, sweeps=20)
    agent.update(replay, Generators(0), 300, 0)
    with torch.no_grad():
        found, ending = foresight.foresight(agent, replay, 20), foresight.ending(agent, replay, 20)
    true = found["true"]
    assert true["end | it ended"] == 1.0 and 0 < true["end"] < 0.5
    for name in ("posterior", "prior", "imagined"):
        assert found[name]["end"] == pytest.approx(true["end"], rel=0.3)
        assert found[name]["reward"] == pytest.approx(true["reward"], rel=0.1)
        assert found[name]["reward | it ended"] == pytest.approx(true["reward | it ended"], rel=0.15)
    with torch.no_grad():
        agent.model.predict.con.team[-1].bias += 3.0
        hopeful = foresight.foresight(agent, replay, 20)
        endless = foresight.ending(agent, replay, 20)
    assert ending.keys() == {"first"}, "no game lasts for a window"
    for name, by in ending.items():
        assert 0.2 < by["played"] == endless[name]["played"] and by["imagined"] == pytest.approx(by["played"], abs=0.15)
        assert endless[name]["imagined"] < by["imagined"] - 0.1
    assert hopeful["true"] == true and hopeful["prior"]["end"] < 0.2 * true["end"]

    state = {"agent": dict(agent.state_dict())}
    checkpoint.save(tmp_path / "checkpoint.safetensors", state, config=config, spec=agent.spec)
    shards.replace(tmp_path / "replay", random_games("toy/clock", 4), agent.spec)
    foresight.show(tmp_path, tmp_path / "replay", 128, 2)
    lines = capsys.readouterr().out.split("\n\n")
    told = [[line.split()[0] for line in table.splitlines()] for table in lines]
    assert told == [["per", "true", "posterior", "prior", "imagined"], ["games", "first"]]
