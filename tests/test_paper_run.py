"""What becomes of cells whose stages have ended, failed or been stopped, and the record of it; test_paper runs them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from synthetic_run import write_run, write_stress

from pipelines import paper, seeds
from pipelines.paths import ROOT
from pipelines.studies import cells, fan_out
from pipelines.studies import workspace as workspaces
from pipelines.studies.cells import Cell
from pipelines.studies.records import processor
from pipelines.studies.sweep_record import recorded
from rmiov2.files import write_json
from rmiov2.reporting.kept import read_kept
from rmiov2.reporting.pages.sweeps import SWEEP_KEYS, SWEEPS, read_sweeps, sweeps_said
from rmiov2.types import UserError

CODE = [{"path": "rmiov2/envs", "md5": "1f"}, {"path": "data/replay", "md5": "2e"}]
Stages = Callable[[Cell], int]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own in which nothing is kept yet."""
    for module in (seeds, paper):
        monkeypatch.setattr(module, "SEEDS", tmp_path / "docs/seeds")
    monkeypatch.setattr(cells.paths, "STATE", tmp_path / "state")
    return tmp_path / "docs/seeds"


def run(monkeypatch: pytest.MonkeyPatch, stages: Stages, *only: str, here: bool = False) -> None:
    """The command, one cell after the other, with these in place of the stages: they give the exit status."""

    def to_its_end(cell: Cell, made: set[str], stopped: threading.Event) -> int:
        status = stages(cell)
        if status == signal.SIGTERM:
            assert stopped.wait(30)
        return status

    monkeypatch.setattr(fan_out, "_to_its_end", to_its_end)
    arguments = {
        "name": "small",
        "only": list(only),
        "list": False,
        "here": here,
        "jobs": 1,
        "threads": 1,
        "device": "cpu",
    }
    paper.reproduce(argparse.Namespace(**arguments))


def finish(cell: Cell) -> int:
    """Leave in its workspace what stages that end well do."""
    root = write_run(cell.folder, "smax", cell.seed)
    (root / "plots/pretrain.csv").write_text("env_steps,loss_model\n1000,3.0\n9000,1.0\n")
    (root / "models/finetune").mkdir(parents=True)
    save_file({"agent/model/weight": np.zeros((2, 3), np.float32)}, root / "models/finetune/checkpoint.safetensors")
    write_json(root / workspaces.VARIANT, cell.record | {"commit": "c0ffee"})
    lock: dict[str, Any] = {stage: {"deps": CODE} for stage in cell.stages}
    if "stress" in lock:
        write_stress(root)
        team = {"path": "models/finetune", "md5": "0"}
        lock |= {"finetune": {"deps": CODE, "outs": [team]}, "stress": {"deps": [*CODE, team]}}
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    return 0


def fail(cell: Cell) -> int:
    return 1


def stop(cell: Cell) -> int:
    """A stop while its stages run; not Ctrl-C, which workers of pytest do not hear."""
    cell.folder.mkdir(parents=True)
    os.kill(os.getpid(), signal.SIGTERM)
    return signal.SIGTERM


def test_a_cell_fails_for_its_own_reasons_alone(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken seed beside it spoils the picture, which is drawn once it is mended."""
    broken = kept / "smax-3m/seed-9"
    broken.mkdir(parents=True)
    (broken / "evaluate.json").write_text("{")
    chosen = ("smax-3m/seed-0", "smax-3m/seed-1", "smax-3m-mappo/seed-0")
    with pytest.raises(UserError, match=r"^smax-3m-mappo/seed-0 failed; see"):
        run(monkeypatch, lambda cell: (fail if "mappo" in cell.label else finish)(cell), *chosen)
    said = capsys.readouterr().out
    assert "smax-3m/seed-0 is kept" in said and "smax-3m/seed-1 is kept" in said
    assert said.count("smax-3m/seeds.png is not drawn:") == 1 and "seed-9/evaluate.json is not JSON" in said
    (broken / "evaluate.json").unlink()
    broken.rmdir()
    run(monkeypatch, finish, "smax-3m/*")
    assert (kept / "smax-3m/seeds.png").is_file() and not (kept / "smax-3m-mappo").exists()
    (method,) = read_kept(kept)
    assert [seed.seed for seed in method.seeds] == [0, 1, 2]
    first, second = read_sweeps(kept)
    assert (first["kept"], first["failed"], first["ended"]) == (list(chosen[:2]), [chosen[2]], "some failed")
    assert (second["kept"], second["failed"], second["ended"]) == (["smax-3m/seed-2"], [], "all")


def test_a_stop_is_written_down_and_so_is_what_goes_on_after_it(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, lambda cell: (finish, fail, stop)[cell.seed](cell), "smax-3m/*")
    assert sorted(path.name for path in (kept / "smax-3m").iterdir()) == ["seed-0", "seeds.png"]
    (entry,) = read_sweeps(kept)
    assert entry.keys() == set(SWEEP_KEYS)
    assert (entry["list"], entry["only"], entry["jobs"], entry["cores"]) == ("small", ["smax-3m/*"], 1, os.cpu_count())
    assert (entry["device"], entry["ended"]) == ("cpu", "stopped")
    assert (entry["kept"], entry["resumed"], entry["failed"]) == (["smax-3m/seed-0"], [], ["smax-3m/seed-1"])
    assert datetime.fromisoformat(entry["began"]).utcoffset() == timedelta(0) and entry["seconds"] > 0
    run(monkeypatch, finish, "smax-3m/*")
    run(monkeypatch, finish, "smax-3m/*")  # nothing is left, and nothing is written down
    before, entry = read_sweeps(kept)
    assert before["ended"] == "stopped"
    assert (entry["kept"], entry["ended"]) == (["smax-3m/seed-2", "smax-3m/seed-1"], "all")  # what was begun first
    assert entry["resumed"] == ["smax-3m/seed-2"] and entry["failed"] == []
    assert "it was run 2 times" in sweeps_said((before, entry), 3)
    assert "1 cell resumed after a stop, and 3 cells were kept" in sweeps_said((before, entry), 3)


KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines import paths
from pipelines.studies.sweep_record import recorded

kept, paths.STATE, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
about = {"list": "small", "only": [], "jobs": 2, "device": "cpu", "resumed": []}
with recorded(kept, about) as sweep:
    sweep.note("kept", "smax-3m/seed-0")
    if how == "lives":
        print("begun", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def begin(kept: Path, how: str) -> subprocess.Popen[str]:
    """A process of a sweep that is killed when it has kept its first cell, or that waits then."""
    command = [sys.executable, "-c", KILLED, str(kept), str(cells.paths.STATE), how]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_kill_leaves_a_true_record_which_the_next_run_completes(kept: Path) -> None:
    living = begin(kept, "lives")
    assert living.stdout is not None and living.stdout.readline() == "begun\n"
    killed = begin(kept, "killed")
    assert killed.wait(60) == -signal.SIGKILL
    found = read_sweeps(kept)
    assert [(entry["ended"], entry["kept"]) for entry in found] == [("running", ["smax-3m/seed-0"])] * 2
    assert len({entry["began"] for entry in found}) == 2
    about = {"list": "toy", "only": ["toy-*"], "jobs": 1, "device": "cuda", "resumed": ["toy-lights@toy/seed-0"]}
    with recorded(kept, about):
        ended = [entry["ended"] for entry in read_sweeps(kept)]
        assert sorted(ended[:2]) == ["killed", "running"] and ended[2] == "running"
        living.communicate(timeout=60)  # it is killed as well; whoever comes next writes that down
    assert [entry["ended"] for entry in read_sweeps(kept)].count("killed") == 1
    with recorded(kept, about):
        pass
    assert [entry["ended"] for entry in read_sweeps(kept)] == ["killed", "killed", "all", "all"]
    seconds = [entry["seconds"] for entry in found]
    assert [entry["seconds"] for entry in read_sweeps(kept)[:2]] == seconds


def test_a_record_that_cannot_be_written_fails_no_cell(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = {"list": "small", "only": [], "jobs": 2, "device": "cpu", "resumed": []}
    with recorded(kept, about) as sweep:
        (kept / SWEEPS).write_text("<<<<<<< HEAD\n")  # git met it on the way
        sweep.note("kept", "smax-3m/seed-0")
        assert "sweeps.json is not JSON" in capsys.readouterr().out
        (kept / SWEEPS).unlink()
    (entry,) = read_sweeps(kept)
    assert (entry["kept"], entry["ended"]) == (["smax-3m/seed-0"], "all")
    (kept / SWEEPS).write_text("{}")
    with pytest.raises(UserError, match="is no list of objects"), recorded(kept, about):
        raise AssertionError("nothing is run then")


def told(**other: Any) -> dict[str, Any]:
    entry = {"list": "small", "only": [], "began": "2026-01-01T00:00:00+00:00", "seconds": 7200.0, "jobs": 2}
    entry |= {"cores": 2, "device": "cpu", "kept": ["a"], "resumed": [], "failed": [], "ended": "all"}
    return entry | other


def test_what_the_page_says_of_the_sweep(tmp_path: Path) -> None:
    assert read_sweeps(tmp_path) == () and sweeps_said((), 0) == ""
    assert sweeps_said([told()], 1) == (
        "The sweep is one command, `python -m pipelines.paper`; it was run once, for 2.0 h, at most 2 cells at once on"
        " 2 cores; 1 cell was kept."
    )
    # c was begun and never kept, so nothing says that it went on.
    others = [told(ended="killed", jobs=1), told(cores=16, device="cpu, cuda", kept=["b", "d"], resumed=["b", "c"])]
    assert sweeps_said(others, 5) == (
        "The sweep is one command, `python -m pipelines.paper`; it was run 2 times, for at least 4.0 h in all, at most"
        " 2 cells at once on 2 and 16 cores and a GPU; 1 cell resumed after a stop, and 3 cells were kept."
        " 2 more teams were made by `python -m pipelines.seeds`, or before sweeps were recorded."
    )
    entry = told()
    del entry["cores"], entry["ended"]
    write_json(tmp_path / SWEEPS, [told(), entry])
    with pytest.raises(UserError, match=r"sweeps.json: entry 1 lacks cores, ended; mend it"):
        read_sweeps(tmp_path)


def test_a_record_says_which_code_was_run(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and the commit do not change it; the code of a stage does."""
    run(monkeypatch, finish, "smax-3m/seed-0")
    folder = cells.paths.STATE / "seeds/smax-3m-0"
    digest = json.loads((kept / "smax-3m/seed-0/variant.json").read_text())["code"]
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    assert workspaces.code_of(folder) == digest and len(digest) == 12
    for place, same in ((1, True), (0, False)):
        lock["stages"]["evaluate"]["deps"][place]["md5"] = "other"
        (folder / "dvc.lock").write_text(yaml.safe_dump(lock))
        assert (workspaces.code_of(folder) == digest) == same


def test_what_another_processor_trained_is_trained_anew_beside_it(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def note(cell: Cell) -> int:
        ran.append(cell.folder.name)
        return finish(cell)

    for name, expected in (("AVX512", ["smax-3m-0"]), ("AVX512", []), ("AVX2", ["smax-3m-0-AVX2"]), ("AVX2", [])):
        for module in (cells, paper):
            monkeypatch.setattr(module, "processor", lambda device, name=name: name)
        run(monkeypatch, note, "smax-3m/seed-0", here=True)
        assert ran == expected
        ran.clear()
    run(monkeypatch, note, "smax-3m/seed-0")
    assert ran == []


@pytest.mark.parametrize("has_record", [True, False])
def test_the_same_team_again_says_whose_processor_was_not_recorded(
    kept: Path, monkeypatch: pytest.MonkeyPatch, has_record: bool
) -> None:
    run(monkeypatch, finish, "smax-3m/seed-0")
    path = kept / "smax-3m/seed-0/variant.json"
    record = json.loads(path.read_text())
    del record["machine"]["processor"]
    path.unlink()
    if has_record:
        write_json(path, record)
    run(monkeypatch, finish, "smax-3m/seed-0", here=True)
    assert [folder.name for folder in kept.glob("smax-3m/seed-*")] == ["seed-0"]
    assert json.loads(path.read_text())["machine"]["processor"] == processor("cpu")
    (method,) = read_kept(kept)
    assert [seed.name for seed in method.seeds] == [f"0 on {processor('cpu')}"]
    assert [entry["kept"] for entry in read_sweeps(kept)] == [["smax-3m/seed-0"], ["smax-3m/seed-0"]]
