"""What becomes of cells whose stages have ended, failed or been stopped; the stages themselves run in test_paper."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from synthetic_run import write_run

from pipelines import cells, fan_out, paper, seeds
from pipelines import workspace as workspaces
from pipelines.cells import Cell
from rmiov2.files import write_json
from rmiov2.reporting.kept import read_kept
from rmiov2.types import UserError

WHOLE, OTHER = [Cell(("env=smax_3m",), seed) for seed in range(3)], Cell(("env=smax_3m", "agent=mappo"), 0)
Stages = Callable[[Cell], int]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own in which nothing is kept yet."""
    for module in (seeds, paper):
        monkeypatch.setattr(module, "SEEDS", tmp_path / "docs/seeds")
    monkeypatch.setattr(cells.paths, "STATE", tmp_path / "state")
    return tmp_path / "docs/seeds"


def run(monkeypatch: pytest.MonkeyPatch, chosen: list[Cell], stages: Stages) -> None:
    """The command's work, one cell after the other, with these in place of the stages: they give the exit status."""

    def to_its_end(cell: Cell, made: set[str], stopped: threading.Event) -> int:
        status = stages(cell)
        if status == signal.SIGINT:
            assert stopped.wait(30)
        return status

    monkeypatch.setattr(fan_out, "_to_its_end", to_its_end)
    paper.run(chosen, 1, 4, "cpu", 1)


def finish(cell: Cell) -> int:
    """Leave in its workspace what stages that end well do."""
    root = write_run(cell.folder, "smax", cell.seed)
    (root / "models/finetune").mkdir(parents=True)
    save_file({"agent/model/weight": np.zeros((2, 3), np.float32)}, root / "models/finetune/checkpoint.safetensors")
    write_json(root / workspaces.VARIANT, cell.record | {"commit": "c0ffee"})
    return 0


def stop(cell: Cell) -> int:
    """Ctrl-C while its stages run."""
    cell.folder.mkdir(parents=True)
    os.kill(os.getpid(), signal.SIGINT)
    return signal.SIGINT


def test_a_cell_fails_for_its_own_reasons_alone(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken seed beside it spoils the picture, which is drawn once it is mended."""
    broken = kept / "smax-3m/seed-9"
    broken.mkdir(parents=True)
    (broken / "evaluate.json").write_text("{")
    with pytest.raises(UserError, match=r"^smax-3m-mappo/seed-0 failed; see"):
        run(monkeypatch, [WHOLE[0], OTHER, WHOLE[1]], lambda cell: 1 if cell.label == OTHER.label else finish(cell))
    said = capsys.readouterr().out
    assert "smax-3m/seed-0 is kept" in said and "smax-3m/seed-1 is kept" in said
    assert said.count("smax-3m/seeds.png is not drawn:") == 1 and "seed-9/evaluate.json is not JSON" in said
    (broken / "evaluate.json").unlink()
    broken.rmdir()
    run(monkeypatch, [WHOLE[2]], finish)
    assert (kept / "smax-3m/seeds.png").is_file() and not (kept / "smax-3m-mappo").exists()
    (method,) = read_kept(kept)
    assert [seed.seed for seed in method.seeds] == [0, 1, 2]


def test_what_was_kept_before_a_stop_is_drawn(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, WHOLE, lambda cell: stop(cell) if cell.seed == 1 else finish(cell))
    assert sorted(path.name for path in (kept / "smax-3m").iterdir()) == ["seed-0", "seeds.png"]
