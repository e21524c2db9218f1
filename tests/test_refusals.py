"""What cannot be trained is refused before DVC takes anything away that git has."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from project import Project
from smac_worlds import DOUBLE, world

from pipelines import paper, params, seeds, study
from pipelines.params import as_text, compose_config, compose_values
from pipelines.refusals import DISCRETE, discrete_of, refuse_impossible, refuse_unrunnable
from pipelines.studies.cells import Cell, cells_of, lists
from rmiov2.acceleration import captured
from rmiov2.envs.registry import SUITES, make_env
from rmiov2.types import UserError

IMPOSSIBLE = {
    ("env=toy_dials", "agent=qmix"): "qmix plays discrete actions only, toy/dials has continuous ones",
    ("env=mamujoco_Ant-4x2", "agent=qmix"): "qmix plays discrete actions only, mamujoco/Ant-4x2 has continuous ones",
    ("env=smac_3m", "agent=mappo", "device=cuda"): "device: got cuda, but mappo learns on the CPU alone",
    ("precision=tf32",): "precision: got tf32 with device=cpu",
}
NO_GPU = "device: got cuda, but torch sees no GPU here"
METRICS = [f"metrics/{stage}.json" for stage in ("collect", "pretrain", "finetune", "evaluate", "stress")]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured.torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("name", ["smax/3m", "mamujoco/HalfCheetah-2x3"])
def test_what_is_said_of_a_suites_actions_is_so(name: str) -> None:
    made = make_env(name, 1)
    made.close()
    assert discrete_of(name) is made.spec.discrete


def test_what_is_said_of_smacs_actions_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(DOUBLE, tmp_path, monkeypatch).make(num_envs=1)
    made.close()
    assert discrete_of("smac/3m") is made.spec.discrete


def test_of_a_users_own_environment_nothing_is_known_before_it_is_built() -> None:
    assert discrete_of("python/no_such_module:Game") is None and discrete_of("pettingzoo/no_such_module") is None
    assert discrete_of("toy/lights") is True and discrete_of("toy/dials") is False
    assert set(DISCRETE) | {"toy", "python", "pettingzoo"} == set(SUITES)


@pytest.mark.parametrize("overrides", IMPOSSIBLE)
def test_a_pair_that_cannot_be_is_refused_wherever_it_is_said(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    assert params.main(overrides) == 2 and IMPOSSIBLE[overrides] in capsys.readouterr().err
    assert not (tmp_path / "params.yaml").exists()
    with pytest.raises(UserError, match=IMPOSSIBLE[overrides]):
        study.checked(list(overrides))
    monkeypatch.setattr(seeds, "fan_out", lambda *told: pytest.fail("it began"))
    with pytest.raises(UserError, match=f"seed-7: {IMPOSSIBLE[overrides]}"):
        seeds.run([7], list(overrides), 1)


@pytest.mark.parametrize("stage", ["finetune", "evaluate"])
def test_an_agent_that_there_is_not_cannot_be_the_blind_one(stage: str) -> None:
    refuse_unrunnable(compose_config(["env=toy_lights", f"{stage}.pattern=one_agent:2"]))
    with pytest.raises(UserError, match="one_agent:3: expected one of the 3 agents, 0 to 2"):
        refuse_unrunnable(compose_config(["env=toy_lights", f"{stage}.pattern=one_agent:3"]))


@pytest.mark.parametrize("overrides", [("agent=qmix",), ("env=toy_dials",), ("device=cuda", "precision=tf32")])
def test_settings_are_composed_for_another_machine_than_this(overrides: tuple[str, ...], no_gpu: None) -> None:
    refuse_impossible(compose_config(overrides))


def test_every_method_of_every_list_can_play_its_task() -> None:
    for name in lists():
        for cell in cells_of(name):
            if cell.seed == 0 and cell.ablation == "none":
                refuse_impossible(compose_config(cell.overrides))


def test_a_gpu_that_is_missing_is_said_before_any_cell_begins(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = ("preset=toy", "env=toy_lights")
    for module in (seeds, paper):
        monkeypatch.setattr(module, "fan_out", lambda *told: pytest.fail("it began"))
    with pytest.raises(UserError, match=NO_GPU):
        refuse_unrunnable(compose_config(["device=cuda"]))
    with pytest.raises(UserError, match=f"^toy-lights@toy/seed-0: {NO_GPU}"):
        paper.run([Cell(toy, 0)], {}, 1, 1, "cuda", 1)
    with pytest.raises(UserError, match=NO_GPU):
        seeds.run([0], [*toy, "device=cuda"], 1)


@pytest.mark.pipeline
def test_a_refusal_changes_nothing_that_git_has(tmp_path: Path) -> None:
    project: Any = Project(tmp_path)
    project.env["CUDA_VISIBLE_DEVICES"] = ""
    for name in METRICS:
        path = project.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}\n")

    def refused(*command: str) -> str:
        project.commit()
        done = subprocess.run(command, cwd=project.root, env=project.env, capture_output=True, text=True)
        assert done.returncode == 2 and project.run("git", "status", "--porcelain") == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    said = refused("python", "-m", "pipelines.params", "env=toy_dials", "agent=qmix", "preset=toy")
    assert "qmix plays discrete actions only" in said
    project.compose("device=cuda")
    assert NO_GPU in refused("python", "-m", "pipelines.run")
    pair = compose_values(["preset=toy", "env=toy_dials", "agent=qmix"])
    (project.root / "params.yaml").write_text(as_text(pair))  # by hand
    assert "qmix plays discrete actions only" in refused("python", "-m", "pipelines.run")
