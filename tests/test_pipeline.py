"""dvc.yaml is true: its names exist, a stage declares what it reads and runs, and only what changed is run again."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import yaml
from project import CELLS, ROOT, STAGES, Project, reproduced, stages
from teams_on_shelves import toy_config

import rmiov2
from pipelines import paths, stage
from pipelines.params import choices
from pipelines.stages import ablate
from rmiov2.config import known_keys
from rmiov2.evaluation import sweep
from rmiov2.evaluation.modes import modes_played
from rmiov2.training import finetune
from rmiov2.types import UserError

# Settings' names, writing files and moving a line on the screen change no result.
CHANGES_NO_RESULT = {
    "rmiov2/__init__.py",
    "rmiov2/files.py",
    "rmiov2/importing.py",
    "rmiov2/progress.py",
    "rmiov2/program.py",
}
CHANGES_NO_RESULT |= {
    "pipelines/stage.py",
    "pipelines/paths.py",
    "pipelines/environment.py",
    "pipelines/models/tracking.py",
    "pipelines/gates/data_docs.py",
    "pipelines/processes/heal.py",
    "pipelines/processes/lifeline.py",
    "rmiov2/agents/own/__init__.py",
    "rmiov2/agents/registry.py",
}
CHANGES_NO_RESULT |= {str(path.relative_to(ROOT)) for path in (ROOT / "rmiov2/config").glob("*.py")}
# An ablation reads these too, after its cell and its own section have taken their place.
OVERRIDDEN = {"finetune.p_mask", "finetune.updates", "evaluate.episodes"}


def outputs(name):
    """Everything that a stage writes."""
    declared = [*STAGES[name].get("outs", []), *STAGES[name].get("metrics", []), *STAGES[name].get("plots", [])]
    return {out if isinstance(out, str) else next(iter(out)) for out in declared}


def settings(name):
    """What a stage declares of params.yaml."""
    return STAGES[name].get("params", [])


def covered(key, entries, separator):
    return any(key == entry or key.startswith(entry + separator) for entry in entries)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_a_module_that_exists(name):
    module, _, cell = name.partition("@")
    assert STAGES[name]["cmd"] == f"python -m pipelines.stages.{module} {cell}".rstrip()
    assert importlib.util.find_spec(f"pipelines.stages.{module}") is not None


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_what_exists_or_is_made_before_it(name):
    earlier = set().union(*(outputs(other) for other in list(STAGES)[: list(STAGES).index(name)]))
    for dependency in STAGES[name]["deps"]:
        made = dependency in earlier or any(out.startswith(dependency + "/") for out in earlier)
        assert made or (ROOT / dependency).exists(), dependency


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_names_settings_that_exist(name):
    for entry in settings(name):
        assert entry in known_keys() or any(key.startswith(entry + ".") for key in known_keys()), entry


def test_training_waits_for_a_gate_and_for_its_word_alone():
    """On the whole receipt it would depend for every expectation that is added, and train anew."""
    gates = {"pretrain": "collect", "finetune": "replay"} | {f"ablate@{cell}": "replay" for cell in CELLS}
    for name, gate in gates.items():
        receipt, word = f"metrics/gates/{gate}.json", f"results/passed/{gate}.json"
        assert {receipt, word} <= outputs(f"gate_{gate}")
        assert word in STAGES[name]["deps"] and receipt not in STAGES[name]["deps"]


def test_small_results_are_in_git_and_large_ones_in_the_cache():
    """An out that is not cached would switch off DVC's memory of what it already ran."""
    for declared in STAGES.values():
        assert all(isinstance(out, str) for out in declared.get("outs", []))
        for kept in [*declared.get("metrics", []), *declared.get("plots", [])]:
            ((_, options),) = kept.items()
            assert options["cache"] is False


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A small root of its own, with our dvc.yaml and params.yaml and something in models/pretrain."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("ROOT", "DVC_YAML", "PARAMS", "STATE"):
        monkeypatch.setattr(paths, name, tmp_path / getattr(paths, name).relative_to(ROOT))
    for folder in ("data/collect", "data/replay", "models/pretrain"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "content").write_bytes(folder.encode())
    return tmp_path


def test_resumable_state_is_found_again_after_a_stop_and_gone_after_success(clone):
    with pytest.raises(KeyboardInterrupt), stage.resumable("pretrain") as first:
        (first / "half").write_text("done")
        raise KeyboardInterrupt
    with stage.resumable("pretrain") as again:
        assert again == first and (again / "half").read_text() == "done"
    assert not first.exists()


def test_resumable_state_belongs_to_its_settings_and_its_data(clone):
    before = stage.fingerprint("finetune"), stage.fingerprint("pretrain")
    values = yaml.safe_load((clone / "params.yaml").read_text())
    values["finetune"]["p_mask"] = 0.25
    (clone / "params.yaml").write_text(yaml.safe_dump(values))
    assert stage.fingerprint("finetune") != before[0] and stage.fingerprint("pretrain") == before[1]
    (clone / "data" / "collect" / "content").write_bytes(b"other games")
    assert stage.fingerprint("pretrain") != before[1]


@pytest.mark.parametrize("changed", ["params.yaml", "data/collect/content"])
def test_what_changes_under_a_stage_that_is_at_work_does_not_name_its_result(clone, changed):
    """DVC records settings and data when the stage has ended."""
    before, begun = (clone / changed).read_bytes(), stage.inputs("pretrain")
    after = before.replace(b"e_m: ", b"e_m: 1") if changed == "params.yaml" else b"other games"
    with pytest.raises(UserError, match="changed while pretrain was at work"), stage.resumable("pretrain") as first:
        (first / "whole").write_text("done")
        (clone / changed).write_bytes(after)
    stage.refuse_changed("pretrain", begun, begun)
    with pytest.raises(UserError, match=r"^pretrain\.e_m changed|^data/collect changed"):
        stage.refuse_changed("pretrain", begun, stage.inputs("pretrain"))
    (clone / changed).write_bytes(before)
    with stage.resumable("pretrain") as again:
        assert again == first and (again / "whole").read_text() == "done"


def test_what_an_earlier_version_began_is_found_by_a_later_one(clone):
    """Names of folders under state/resume, and what a study of settings was begun on, are of these bytes."""
    declared = yaml.safe_load((clone / "dvc.yaml").read_text())["stages"]["pretrain"]["params"]
    values = yaml.safe_load((clone / "params.yaml").read_text())
    settings = {}
    for key in declared:
        settings[key] = values
        for part in key.split("."):
            settings[key] = settings[key][part]
    data = b"content" + hashlib.sha256(b"data/collect").digest()
    told = json.dumps(settings, sort_keys=True).encode() + data
    assert stage.fingerprint("pretrain") == hashlib.sha256(told).hexdigest()[:16]


def test_resumable_state_without_its_data_is_refused(clone):
    shutil.rmtree(clone / "data" / "collect")
    with pytest.raises(UserError, match="data/collect is missing"):
        stage.fingerprint("pretrain")


@pytest.mark.parametrize(("error", "code"), [(UserError("no such map"), 2), (KeyboardInterrupt(), 130)])
def test_a_stage_that_fails_says_one_sentence(error, code, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["collect"])

    def work(config):
        raise error

    assert stage.main("collect", "It fails.", work) == code
    err = capsys.readouterr().err.strip()
    assert err.startswith("collect: ") and len(err.splitlines()) == 1
    assert "no such map" in err if code == 2 else "goes on" in err


def test_an_ablation_tunes_and_plays_as_often_as_it_says(tmp_path, monkeypatch):
    tuned, played = [], []
    monkeypatch.setattr(stage, "resumable", lambda *_: nullcontext(tmp_path))
    monkeypatch.setattr(paths, "METRICS", tmp_path)
    monkeypatch.setattr(finetune, "finetune", lambda settings, **_: tuned.append(settings.finetune) or {})
    monkeypatch.setattr(rmiov2, "load", lambda *_: SimpleNamespace(spec=SimpleNamespace(measure="win_rate")))
    monkeypatch.setattr(sweep, "evaluate_own", lambda agent, make, settings, _: played.append(settings) or {})
    config = toy_config(ablate__episodes=7, ablate__updates=11)
    told = json.loads(ablate.ablate(config, "0.25").read_text())
    ((tuning,), (playing,)) = tuned, played
    assert (tuning.p_mask, tuning.updates, playing.episodes) == (0.25, 11, 7)
    assert (told["p_mask"], told["episodes"]) == (0.25, 7) and told["p_loss"] == list(playing.p_loss)


# The whole pipeline, on a game that is played in seconds.


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The pipeline has run once; tests that follow leave it reproduced."""
    made = reproduced(tmp_path_factory, "pipeline")
    made.commit()
    return made


def undeclared(project, name, declared):
    """The code that a stage ran without depending on it."""
    ran = set(json.loads((project.traces / f"{name}.json").read_text())["code"])
    ran = {file for file in ran if file.startswith(("rmiov2/", "pipelines/"))}
    code = [dependency for dependency in declared[name]["deps"] if dependency.startswith(("rmiov2/", "pipelines/"))]
    assert f"pipelines/stages/{name.partition('@')[0]}.py" in ran
    return [file for file in sorted(ran - CHANGES_NO_RESULT) if not covered(file, code, "/")]


AGENTS = {
    "mappo": ("toy_lights", "pretrain.segment=24"), "mappo_smax": ("toy_lights", "pretrain.segment=24"),
    "mappo_mamujoco": ("toy_dials", "pretrain.segment=24"),
    "qmix": ("toy_lights",), "facmac_discrete": ("toy_lights",), "facmac": ("toy_dials", "finetune.updates=30"),
    "gawm": ("toy_dials",), "rmio": ("toy_lights",), "mamba": ("toy_lights",), "mag": ("toy_dials",),
    "own": ("toy_lights", "agent.method=own_method:Independent"),
}  # fmt: skip
COMPLETES = {"rmio"}
PAPER_SIZE = {"mamba_paper", "mag_paper", "qmix_classic"}  # other numbers of the same code
SHORT = ("collect.num_envs=4", "collect.warmup_steps=200", "pretrain.env_steps=600", "pretrain.eval_every=200")


def test_no_agent_is_left_out() -> None:
    assert {*AGENTS, *PAPER_SIZE, "rmiov2"} == set(choices("agent"))


@pytest.mark.pipeline
@pytest.mark.long
@pytest.mark.parametrize("preset", AGENTS)
def test_every_agent_goes_through_every_stage_and_declares_its_code(preset, tmp_path):
    project, (env, *overrides) = Project(tmp_path, traced=True), AGENTS[preset]
    project.env["PYTHONPATH"] += f"{os.pathsep}{project.root / 'examples'}"
    project.compose(f"agent={preset}", f"env={env}", *SHORT, *overrides)
    assert project.repro() == list(STAGES)
    agent = yaml.safe_load((project.root / "params.yaml").read_text())["agent"]["name"]
    assert {name: undeclared(project, name, stages(agent)) for name in STAGES} == dict.fromkeys(STAGES, [])
    own = "completion" if preset in COMPLETES else "zeros"
    assert set(project.read("metrics/evaluate.json")["auc"]) == set(modes_played(own))
    assert "zeros" in (project.root / "reports/index.html").read_text()
    assert project.repro() == []


STALE = """
from pipelines import paths, run
from pipelines.processes.dvc_stage import dag

stale = run.out_of_date([], dag(paths.ROOT))
print(sorted(stale), sorted(run.on_the_device(stale)))
"""


@pytest.mark.pipeline
class TestWholePipeline:
    def test_everything_declared_is_there_and_nothing_is_left_over(self, project):
        for name in STAGES:
            for out in outputs(name):
                assert (project.root / out).exists(), out
        assert (project.root / "reports" / "index.html").stat().st_size > 1000
        assert list((project.root / "state" / "resume").glob("*/*")) == []
        assert project.run("git", "status", "--porcelain") == ""

    def test_metrics_hold_what_other_programs_read(self, project):
        for name in ("pretrain", "finetune"):
            metrics = project.read(f"metrics/{name}.json")
            assert set(metrics) >= {"env", "agent", "preset", "seeds", "env_steps", "updates", "wall_s"}
            assert (metrics["env"], metrics["preset"], metrics["seeds"]) == ("toy/lights", "toy", [0])
        assert set(project.read("metrics/finetune.json")["l_rec"]) == {"before", "after"}
        result = project.read("metrics/evaluate.json")
        modes = {"completion", "completion_untuned", "zeros", "last_seen", "open_loop"}
        assert (
            set(result["performance"]) == set(result["ci95"]) == set(result["auc"]) == set(result["auc_ci95"]) == modes
        )
        assert all(len(curve) == len(result["p_loss"]) for curve in result["performance"].values())
        assert {"env", "agent", "measure", "episodes", "random", "true_availability"} <= set(result)

    @pytest.mark.parametrize("name", STAGES)
    def test_a_stage_declares_every_setting_that_it_reads(self, project, name):
        read = json.loads((project.traces / f"{name}.json").read_text())["settings"]
        declared = settings(name)
        if name.startswith("ablate@"):
            read = sorted(set(read) - OVERRIDDEN)
        assert [key for key in read if not covered(key, declared, ".")] == []
        assert [entry for entry in declared if not any(covered(key, [entry], ".") for key in read)] == []

    @pytest.mark.parametrize("name", STAGES)
    def test_a_stage_depends_on_all_the_code_that_it_runs(self, project, name):
        assert undeclared(project, name, STAGES) == []

    def test_no_setting_is_read_by_no_stage(self, project):
        read = {key for name in STAGES for key in json.loads((project.traces / f"{name}.json").read_text())["settings"]}
        assert sorted(set(known_keys("rmiov2")) - read) == []

    def test_a_second_run_runs_nothing(self, project):
        assert project.repro() == []

    def test_the_page_can_be_thrown_away_and_drawn_again(self, project):
        page = project.root / "reports" / "index.html"
        before = page.read_bytes()
        shutil.rmtree(page.parent)
        assert project.repro() == []
        project.run("python", "-m", "pipelines.stages.report")
        assert page.read_bytes() == before
        assert "up to date" in project.run("dvc", "status")

    def test_words_that_change_no_result_rerun_nothing(self, project):
        readme = project.root / "README.md"
        readme.write_text(readme.read_text() + "\nOne more word.\n")
        assert project.repro() == []

    def test_a_page_alone_asks_for_no_device_and_what_waits_for_a_training_does(self, project):
        def told():
            return project.run("python", "-c", STALE).splitlines()[-1]

        assert told() == "[] []"
        words = project.root / "rmiov2" / "reporting" / "words.py"
        before = words.read_text()
        words.write_text(before + "\n")
        assert told() == "['report'] []"
        words.write_text(before)
        project.compose("stress.episodes=9", "finetune.p_mask=0.25")
        assert (
            told() == "['evaluate', 'finetune', 'gate_results', 'report', 'stress'] ['evaluate', 'finetune', 'stress']"
        )
        project.compose()
        assert told() == "[] []"

    def test_dvc_shows_metrics_and_plots(self, project):
        assert "metrics/evaluate.json" in project.run("dvc", "metrics", "show")
        project.run("dvc", "plots", "show", "-o", "dvc_plots")
        assert (project.root / "dvc_plots" / "index.html").stat().st_size > 1000

    def test_a_changed_p_mask_reruns_what_comes_after_it_and_going_back_reruns_only_the_page(self, project):
        rows = project.root / "results" / "episodes.parquet"
        before = rows.read_bytes()
        project.compose("finetune.p_mask=0.25")
        ran = project.repro()
        looked = ["gate_results"] if rows.read_bytes() != before else []  # the toy may play the same games
        assert ran == ["finetune", "evaluate", *looked, "stress", "report"]
        assert "auc.completion" in project.run("dvc", "metrics", "diff", "HEAD", "--all")
        project.compose()
        assert project.repro() in ([], ["report"])
        assert project.run("git", "diff", "--stat", "metrics", "plots", "params.yaml") == ""

    def test_an_ablation_says_what_its_cell_was_worth(self, project):
        for cell in CELLS:
            told = project.read(f"metrics/ablate/{cell}.json")
            assert (told["p_mask"], told["updates"], told["episodes"]) == (float(cell), 20, 8)
            assert len(told["performance"]) == len(told["p_loss"]) and told["auc_ci95"][0] <= told["auc"]
        untuned = project.read("metrics/finetune.json")["l_rec"]["before"]
        assert {project.read(f"metrics/ablate/{cell}.json")["l_rec"]["before"] for cell in CELLS} == {untuned}

    def test_an_ablation_of_no_probability_is_refused(self, project):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.stages.ablate", "1.5"], cwd=project.root, env=project.env,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2 and "finetune.p_mask" in done.stderr and len(done.stderr.strip().splitlines()) == 1

    def test_another_expectation_looks_again_and_trains_nothing(self, project):
        suites = project.root / "pipelines" / "gates" / "suites.py"
        before = suites.read_text()
        rule = '        Rule("padding_is_zero",'
        suites.write_text(before.replace(rule, '        Rule("padding_is_null", "so", "padding_not_zero"),\n' + rule))
        said = project.run("dvc", "repro", "pretrain")
        assert "Running stage 'gate_collect':" in said and "Stage 'pretrain' didn't change, skipping" in said
        assert project.read("metrics/gates/collect.json")["expectations"] == 31
        suites.write_text(before)
        assert project.repro() == []

    @pytest.mark.long
    def test_equal_runs_give_equal_bytes(self, project):
        made = ["models/pretrain/checkpoint.safetensors", "models/finetune/checkpoint.safetensors"]
        made += ["plots/learning.csv", "plots/pretrain.csv", "plots/finetune.csv", "metrics/evaluate.json"]
        made += ["results/episodes.parquet", "results/scene.json", "results/stress.parquet", "metrics/stress.json"]
        before = {name: (project.root / name).read_bytes() for name in made}
        for name in ("pretrain", "finetune", "evaluate", "stress"):
            project.run("python", "-m", f"pipelines.stages.{name}")
        assert [name for name in made if (project.root / name).read_bytes() != before[name]] == []
