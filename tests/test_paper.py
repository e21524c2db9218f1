"""The one command: its lists compose, its cells keep their names, share what they can, and go on after a stop."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import Project
from study_cases import until

from benchmarks.cases import composed
from pipelines import paper
from pipelines.params import choices, compose_values
from pipelines.seeds import SEEDS
from pipelines.studies import cells, fan_out
from pipelines.studies import workspace as workspaces
from pipelines.studies.cells import Cell, cells_of, folder_name, lists, read_list, seconds
from rmiov2.files import write_json
from rmiov2.reporting.kept import read_kept
from rmiov2.reporting.pages.sweeps import read_sweeps
from rmiov2.types import UserError

FLOAT32 = "precision=float32"
TOY = ("preset=toy", "env=toy_lights")


@pytest.mark.parametrize("name", lists())
def test_a_list_names_files_that_exist_and_no_cell_twice(name: str) -> None:
    made = read_list(name)
    for env, task in made.tasks.items():
        assert env in choices("env") and set(task.ablations) <= set(choices("ablation"))
        assert {text.split()[0] for text in task.methods} <= set(choices("agent"))
    found = cells_of(name)
    assert len({cell.label for cell in found}) == len(found)
    assert {cell.seed for cell in found} == set(made.seeds)
    assert all(cell.label.endswith(f"{'' if name == 'small' else f'@{name}'}/seed-{cell.seed}") for cell in found)


@pytest.mark.parametrize("name", ["small", "paper", "toy"])
def test_every_cell_of_a_list_composes_and_every_ablation_takes_something_away(name: str) -> None:
    # Those of battles at the defaults are looked at in test_params; those of both battles at paper size are the same.
    known = {"small": {"env=smax_3m", "env=smax_2s3z"}, "paper": {"env=smax_3s_vs_5z"}}.get(name, set())
    for cell in cells_of(name):
        if cell.seed == 0 and (cell.ablation == "none" or known.isdisjoint(cell.overrides)):
            assert cell.values["seed"] == 0
            assert (cell.ablation == "none") == (cell.changes == {})


@pytest.mark.parametrize(("name", "steps"), [("paper", 100_000), ("paper_200k", 200_000)])
def test_a_list_at_the_papers_size_has_its_steps_on_both_maps_and_the_masked_updates_of_each(
    name: str, steps: int
) -> None:
    whole = [cell.values for cell in cells_of(name) if cell.seed == 0 and cell.ablation == "none"]
    found = {
        (values["env"]["name"], values["pretrain"]["env_steps"], values["finetune"]["updates"]) for values in whole
    }
    assert found == {("smax/2s3z", steps, 15_000), ("smax/3s_vs_5z", steps, 20_000)} and len(whole) == 10


def test_the_small_list_has_what_the_paper_compares() -> None:
    task = read_list("small").tasks["smax_3m"]
    methods = [c for c in cells_of("small") if "env=smax_3m" in c.overrides and c.ablation == "none"]
    agents = {cell.values["agent"]["name"] for cell in methods}
    assert agents == {"rmiov2", "rmio", "gawm", "mamba", "mag", "mappo", "qmix", "facmac"}
    robots = read_list("small").tasks["mamujoco_HalfCheetah-2x3"]
    of_robots = {"no_reward_trend", "paper_trend", "unscaled_trend", "no_normalised_obs"}  # which act on them alone
    of_2s3z = {"no_average", "no_foresight", "no_pad_ends"}  # which smax/3m does without
    there = {"none", "gawm_adaptive"} | of_robots | of_2s3z  # GAWM is a method
    assert set(choices("ablation")) - set(task.ablations) == there
    assert read_list("small").tasks["smax_2s3z"].ablations == (*task.ablations, *sorted(of_2s3z))
    of_battles = {"likely_actions", "whole_history", "normalised_trend", "normalised_paper_trend", "policy_at_once"}
    assert set(task.ablations) - of_battles | of_robots == set(robots.ablations)


def test_names_say_what_is_not_the_default() -> None:
    values = compose_values(["env=smax_3m"])
    assert folder_name(values) == "smax-3m" and folder_name(values, "no_fusion") == "smax-3m+no_fusion"
    assert folder_name(values | {"preset": "paper"}) == "smax-3m@paper"
    assert folder_name(compose_values(["agent=qmix", "preset=toy"]), scale="other") == "smax-3m-qmix@other"
    cell = Cell((*TOY, "ablation=p_mask_0.125"), 3)
    assert cell.label == "toy-lights+p_mask_0.125@toy/seed-3" and cell.folder.name == "toy-lights+p_mask_0.125@toy-3"


def test_what_is_kept_already_keeps_its_name() -> None:
    for study in SEEDS.glob("*/seed-*"):
        run = json.loads((study / "evaluate.json").read_text())
        values = {"env": {"name": run["env"]}, "agent": {"name": run["agent"]}, "preset": "small"}
        if not (study / "variant.json").exists():
            assert study.parent.name == folder_name(values)


def test_an_ablation_that_takes_nothing_away_is_refused() -> None:
    with pytest.raises(UserError, match="ablation=constant_p_mask changes nothing of env=toy_lights preset=paper"):
        Cell(("env=toy_lights", "preset=paper", "ablation=constant_p_mask"), 0).make()


def test_a_list_that_is_wrong_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "LISTS", tmp_path)
    (tmp_path / "mine.yaml").write_text("seeds: [0]\ntasks: {toy_lights: {method: [rmiov2]}}\n")
    with pytest.raises(UserError, match=r"mine.yaml: tasks.toy_lights.method: Extra inputs"):
        read_list("mine")
    (tmp_path / "twice.yaml").write_text("seeds: [0]\ntasks: {smax_3m: {methods: [qmix, qmix_classic]}}\n")
    with pytest.raises(UserError, match=r"twice.yaml has smax-3m-qmix@twice/seed-0 twice"):
        cells_of("twice")
    with pytest.raises(UserError, match="conf/experiments has no 'yours'; it has mine"):
        read_list("yours")


# What cells share.


def stages(*overrides: str, seed: int = 0) -> dict[str, str]:
    return dict(Cell((*TOY, *overrides), seed).stages)


def same(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [stage for stage in fan_out.STAGES if one[stage] == other[stage]]


def test_an_ablation_shares_the_stages_that_do_not_read_what_it_changes() -> None:
    whole = stages()
    assert same(whole, stages("ablation=no_masking")) == ["collect", "pretrain"]
    assert same(whole, stages("ablation=history_1")) == ["collect", "pretrain"]
    assert same(whole, stages("ablation=no_completion")) == ["collect", "pretrain", "finetune"]
    assert same(whole, stages("ablation=no_fusion")) == ["collect"]
    assert same(whole, stages(seed=1)) == []
    assert same(whole, stages("ablation=none")) == list(fan_out.STAGES)


@dataclass(frozen=True)
class Study:
    """Made of nothing but what is asked of a study before it runs."""

    folder: Path
    keys: tuple[str, ...]
    accident: Exception | None = None

    @property
    def stages(self) -> dict[str, str]:
        return dict(zip(fan_out.STAGES, self.keys, strict=True))

    def make(self) -> Path:
        if self.accident is not None:
            raise self.accident
        return self.folder


def test_nothing_is_made_twice_at_once() -> None:
    whole, masked, bare, other = (
        Study(Path(name), tuple(keys))
        for name, keys in (("whole", "0pfe"), ("masked", "0pgd"), ("bare", "0pfc"), ("other", "1qhb"))
    )  # fmt: skip
    waiting = [whole, masked, bare, other]
    assert fan_out.startable(waiting, [], set(), 4) == [whole, other]
    assert fan_out.startable(waiting, [], set(), 1) == [whole]
    assert fan_out.startable([masked, bare], [whole, other], set("0p"), 4) == [masked]
    assert fan_out.startable([bare], [whole, masked], set("0pf"), 4) == [bare]
    assert fan_out.startable([bare], [whole, masked], set("0pf"), 2) == []
    assert fan_out.startable(waiting, [], set("0pfg1qh"), 9) == waiting
    apart = Study(Path("apart"), tuple("0rst"))  # nothing but the first buffer is the same
    assert fan_out.startable([apart], [whole], set(), 4) == []
    assert fan_out.startable([apart], [whole], {"0"}, 4) == [apart]


def test_what_befalls_one_study_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fan_out.paths, "ROOT", tmp_path)
    clone = subprocess.CalledProcessError(128, ["git", "clone"])
    accidents = (OSError("no space left"), clone, UserError("a sentence"), ZeroDivisionError("ours"))
    studies = [Study(tmp_path / f"study-{i}", tuple(f"{i}pfe"), error) for i, error in enumerate(accidents)]
    assert fan_out.fan_out(studies, 1, lambda study: None) == studies
    said = capsys.readouterr().out
    assert "study-0: no space left" in said and "study-1: Command '['git', 'clone']' returned" in said
    assert "study-2: a sentence" in said and "Traceback" in said.split("study-3:")[1]


def test_what_goes_wrong_when_a_study_is_kept_is_its_failure(capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[Study] = []

    def ended(study: Study) -> None:
        kept.append(study)
        if len(kept) > 1:
            raise UserError("the disk is full")

    study, well = Study(Path("mine"), tuple("0pfe")), Future[int]()
    well.set_result(0)
    assert fan_out.went_well(study, well, ended) and not fan_out.went_well(study, well, ended)
    assert "mine: the disk is full" in capsys.readouterr().out
    ill = Future[int]()
    ill.set_result(3)
    assert not fan_out.went_well(study, ill, ended) and kept == [study, study]


def test_what_is_shared_is_estimated_once(tmp_path: Path) -> None:
    kept = tmp_path / "toy-lights@toy/seed-5"
    kept.mkdir(parents=True)
    for stage, wall in (("pretrain", 100.0), ("finetune", 10.0)):
        (kept / f"{stage}.json").write_text(json.dumps({"wall_s": wall}))
    (kept / "evaluate.json").touch()
    (kept.with_name("seed-6")).mkdir()  # half kept
    made = [Cell((*TOY, *more), 0) for more in ((), ("ablation=no_masking",), ("ablation=no_completion",))]
    unknown = Cell((*TOY, "agent=rmio"), 0)
    assert list(seconds([*made, unknown, Cell(TOY, 1)], tmp_path)) == [110.0, 10.0, 0.0, None, 110.0]


def test_cells_are_chosen_by_their_names_and_wrong_patterns_are_told() -> None:
    found = paper.chosen("small", ["smax-3m/*", "smax-3m+no_*fusion/*"])
    assert found == paper.chosen("small", ["smax/3m/*", "smax/3m+no_*fusion/*"])
    assert {cell.ablation for cell in found} == {"none", "no_fusion", "no_action_fusion", "no_observation_fusion"}
    assert len(found) == 12
    with pytest.raises(UserError, match="--only smax-3m fits no cell of small"):
        paper.chosen("small", ["smax-3m"])


def test_where_a_cell_runs_is_no_part_of_its_name_and_stays_as_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells.paths, "STATE", tmp_path)
    cell = Cell(TOY, 0)
    assert Cell(TOY, 0, machine=("threads=2",)).label == cell.label
    assert paper.machine_of(cell, "cuda", 1) == ("device=cuda", FLOAT32, "threads=1")
    assert paper.machine_of(Cell((*TOY, "agent=mappo"), 0), "auto", 2) == (
        "device=cpu",
        "precision=float32",
        "threads=2",
    )
    cell.folder.mkdir(parents=True)
    (cell.folder / "params.yaml").write_text(yaml.safe_dump({"device": "cpu", "threads": 3}))
    assert paper.machine_of(cell, "auto", 1) == paper.machine_of(cell, "cpu", 1) == ("device=cpu", FLOAT32, "threads=3")
    with pytest.raises(UserError, match="was begun with device=cpu, got --device cuda; leave that out, or remove"):
        paper.machine_of(cell, "cuda", 1)
    write_json(cell.folder / workspaces.VARIANT, {"machine": {"device": "cuda", "threads": 1}})
    assert paper.machine_of(cell, "auto", 1) == (
        "device=cuda",
        "precision=float32",
        "threads=1",
    )  # params.yaml may be the clone's yet


def test_busy_cores_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(fan_out.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for busy, free in ((0.0, 6), (50.0, 4), (100.0, 0)):
        monkeypatch.setattr(fan_out.psutil, "cpu_percent", lambda _, busy=busy: busy)
        assert fan_out.idle_cores() == free
    assert paper.at_once(4) == 1


def test_of_settings_that_differ_the_greediest_says_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "idle_cores", lambda: 13)
    one, two, card, games = (composed(*more) for more in ((), ("threads=2",), ("device=cuda",), ("env=smac_2s3z",)))
    assert [fan_out.jobs_for([config]) for config in (one, two, card, games)] == [13, 6, fan_out.ON_GPU, 1]
    assert fan_out.jobs_for([one, two]) == 6 and fan_out.jobs_for([card, games]) == 1


def test_so_many_at_once_take_that_much_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "seconds", lambda cells, kept: iter([3600.0] * len(cells)))
    states = {Cell(TOY, seed): state for seed, state in enumerate((cells.KEPT, cells.BEGUN, cells.OPEN))}
    told = "1 kept, 1 begun, 1 open: about {} h of training, {} at once"
    assert [paper.summary(states, jobs) for jobs in (1, 2)] == [told.format("2.0", 1), told.format("1.0", 2)]


def test_what_was_begun_goes_on_before_anything_else_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "SEEDS", tmp_path / "seeds")
    monkeypatch.setattr(cells.paths, "STATE", tmp_path / "state")
    *others, last = paper.chosen("toy", [])
    last.folder.mkdir(parents=True)
    called: list[list[Cell]] = []
    monkeypatch.setattr(paper, "run", lambda left, *_: called.append(left))
    assert paper.main(["toy", "--jobs", "1"]) == 0
    assert called == [[last, *others]] and others


@pytest.mark.parametrize(("device", "asked", "most"), [("cpu", 9, 9), ("cuda", 9, 4), ("cuda", 2, 2)])
def test_on_a_gpu_no_more_run_at_once_than_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, asked: int, most: int
) -> None:
    ran: list[int] = []
    monkeypatch.setattr(paper, "SEEDS", tmp_path)
    monkeypatch.setattr(cells.paths, "STATE", tmp_path / "state")
    monkeypatch.setattr(paper, "fan_out", lambda placed, jobs, *_: ran.append(jobs) or [])
    monkeypatch.setattr(paper, "refuse_cells", lambda placed: None)  # there may be no GPU here
    paper.run([Cell(TOY, 0)], {"list": "toy", "only": [], "resumed": []}, asked, 4, device, 1)
    (record,) = read_sweeps(tmp_path)
    assert ran == [record["jobs"]] == [most]


# The command itself.


def command(project: Project, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.paper", "toy", "--jobs", "2", *arguments],
        cwd=project.root, env=project.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.long
def test_a_stopped_command_leaves_nothing_running_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    """Two cells of one seed, stopped in the first one's pre-training; the other's is restored, not made again."""
    project = Project(tmp_path)
    shutil.copy(project.root / "tests/hasty/sitecustomize.py", project.root)  # stages save after every round
    toy = project.root / "conf/experiments/toy.yaml"
    toy.write_text(toy.read_text().replace("[preset=toy]", "[preset=toy, pretrain.env_steps=1500]"))
    project.commit()
    began = command(project)
    folder = project.root / "state/seeds/toy-lights@toy-0"
    until(lambda: list(folder.glob("state/resume/pretrain/*/checkpoint.safetensors")), 240)
    began.send_signal(signal.SIGINT)
    told, _ = began.communicate(timeout=60)
    assert began.returncode == 130 and "the same command goes on" in told
    assert not list(living(project.root))
    kept = project.root / "docs/seeds"
    assert not list(kept.glob("toy-*")) and "begun toy-lights@toy/seed-0" in listed(project)

    told, _ = command(project).communicate(timeout=600)
    assert "toy-lights+no_masking@toy/seed-0 is kept" in told, told
    log = (folder.parent / "toy-lights+no_masking@toy-0.pretrain.log").read_text()
    assert "Stage 'pretrain' is cached - skipping run" in log
    assert "goes on from" in (folder.parent / "toy-lights@toy-0.pretrain.log").read_text()
    found = {method.ablation: method for method in read_kept(kept) if method.seeds[0].evaluate["env"] == "toy/lights"}
    assert found["no_masking"].changes == {"finetune.p_mask": 0.0} and found["none"].scale == "toy"
    pretrained = [(kept / f"toy-lights{name}@toy/seed-0/pretrain.json").read_bytes() for name in ("", "+no_masking")]
    assert pretrained[0] == pretrained[1]

    told, _ = command(project).communicate(timeout=120)
    assert "2 kept, 0 begun, 0 open: nothing is left to do" in told and "runs" not in told
    whole, masked = "toy-lights@toy/seed-0", "toy-lights+no_masking@toy/seed-0"
    stopped, all_of_it = read_sweeps(kept)[-2:]
    assert (stopped["list"], stopped["jobs"], stopped["kept"], stopped["ended"]) == ("toy", 2, [], "stopped")
    assert (all_of_it["resumed"], sorted(all_of_it["kept"]), all_of_it["ended"]) == ([whole], [masked, whole], "all")
    said = project.run("python", "-m", "pipelines.paper", "--table")
    assert "The paper’s findings on toy/lights, toy" in said and "finetune.p_mask = 0.0" in said


def listed(project: Project) -> str:
    return project.run("python", "-m", "pipelines.paper", "toy", "--list")


def living(root: Path) -> Any:
    import psutil

    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(root):
                yield process
        except psutil.Error:
            continue
