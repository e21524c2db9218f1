"""docs/files.md explains what is written, all of it and nothing else."""

import re
from pathlib import Path

import pandas as pd
import pytest
from learning_cases import ROOT, composed, random_games

from rmiov2.agents.registry import AGENTS
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.sweep import COLUMNS
from rmiov2.training.pretrain import Pretraining

GUIDE = (ROOT / "docs" / "files.md").read_text()
DISCRETE = {"facmac": "facmac_discrete"}


def section(title: str) -> str:
    """The text under a heading that names a file."""
    return GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]


def explained(title: str) -> set[str]:
    """Every name in the first column of the table under a heading."""
    cells = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """By method, what it tells of its learning on toy/lights."""
    names = {}
    for agent in AGENTS:
        chosen = f"agent={DISCRETE.get(agent, agent)}"
        tells_all = ("world_model.foresight=1.0", "pretrain.e_m=0.1", "pretrain.e_pi=0.1")
        config = composed("env=toy_lights", chosen, "preset=toy", *tells_all)
        run = Pretraining(config, make_env("toy/lights", 4), random_games("toy/lights", 40))
        run.sweep()
        names[agent] = set().union(*run.curve)
    return names


def test_every_number_that_a_method_tells_while_it_learns_is_explained_and_no_other(told: dict[str, set[str]]) -> None:
    assert set().union(*told.values()) == explained("plots/pretrain.csv")


def test_the_guide_knows_the_columns_of_episodes_and_no_other() -> None:
    assert explained("results/episodes.parquet") == set(COLUMNS)


def test_the_headline_is_read_from_episodes_as_the_guide_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two games of a blind agent that does not know its mask, and two where it does and wins."""
    kinds = [("lost", False), ("lost", True), ("true", True), ("true", True)]
    rows = [{"availability": kind, "won": won, "mode": "zeros", "p_loss": 0.5} for kind, won in kinds]
    (tmp_path / "results").mkdir()
    pd.DataFrame(rows).to_parquet(tmp_path / "results/episodes.parquet")
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.split()[-2:] == ["zeros", "0.5"]
