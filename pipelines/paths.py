"""Where the files of the pipeline live; dvc.yaml says the same."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PARAMS = ROOT / "params.yaml"
DVC_YAML = ROOT / "dvc.yaml"
CONF = ROOT / "conf"
METRICS = ROOT / "metrics"
GATES = METRICS / "gates"
PLOTS = ROOT / "plots"
RESULTS = ROOT / "results"
PASSED = RESULTS / "passed"
REPORTS = ROOT / "reports"
DATA_DOCS = REPORTS / "data_docs"
STATE = ROOT / "state"
JOURNAL = STATE / "tuning" / "journal.log"  # Optuna's, of every study on this machine
TUNING = ROOT / "tuning"

COLLECTED = ROOT / "data" / "collect"
REPLAY = ROOT / "data" / "replay"
PRETRAINED = ROOT / "models" / "pretrain"
FINETUNED = ROOT / "models" / "finetune"
