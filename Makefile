# A bare machine needs Python 3.11 or newer with venv, make, git and a C compiler; the rest is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help setup run study ui clone push pull doctor test test-long bench lint params tune report register promote rollback
.PHONY: serve quick

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
GATES := collect replay results
EXTRAS := smax,mamujoco,pettingzoo,pipeline,tracking,cluster,s3,postgres,dev

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Containers often forbid Python to keep what it compiles; then each of the many processes here compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE
# Threads that outnumber idle cores, or spin while they wait, slow small products down a hundredfold.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0
export KMP_BLOCKTIME ?= 0

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

setup: $(STAMP)  ## install everything into .venv, once

# The first Python that is new enough and can make a venv; PYTHON=… chooses another. The pip that comes with Python 3.11
# takes three times as long over 250 packages as a new one. What is installed and never imported, most of it, need not
# be compiled; what nearly every command imports is, on two cores, as otherwise all that begin at once would each
# compile it for themselves.
$(STAMP): pyproject.toml constraints.txt
	@set -e; python="$(PYTHON)"; \
	for candidate in python3.11 python3.12 python3.13 python3; do \
	  test -n "$$python" && break; \
	  $$candidate -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$$candidate; \
	done; \
	test -n "$$python" || { echo "make: no Python 3.11 or newer with venv; install one, or say PYTHON=/path/to/python" >&2; exit 1; }; \
	test -x $(PY) || { echo "set-up: $$python makes $(VENV)"; $$python -m venv $(VENV); }
	@echo "set-up: installing, a minute or two the first time"
	@$(PY) -m pip install --quiet --disable-pip-version-check 'pip>=26'
	@$(PY) -m pip install --no-compile --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@$(PY) -c 'import great_expectations, mlflow, optuna' & other=$$!; \
	$(PY) -c 'import dvc.repo, jax, prefect, torch._dynamo' && wait $$other
	@touch $@

run: clone setup  ## the main job: collect, pretrain, finetune, evaluate, report; goes on where it was stopped; JOBS=1: one stage at a time
	@$(PY) -m pipelines.run $(if $(JOBS),--jobs $(JOBS))
	@test -f reports/index.html || $(PY) -m pipelines.stages.report
	@for gate in $(GATES); do test -f reports/data_docs/$$gate/index.html || $(PY) -m pipelines.stages.gate_$$gate || exit; done
	@echo "report: $(CURDIR)/reports/index.html"

push: setup  ## results to the store: a folder beside the clone, or make push STORE=s3://bucket/folder
	@$(PY) -m pipelines.remote push $(if $(STORE),--store $(STORE))

pull: setup  ## results from the store, so that make run repeats nothing that is there
	@$(PY) -m pipelines.remote pull $(if $(STORE),--store $(STORE))

doctor: setup  ## say what is wrong with the installation or left behind by a kill, and how to mend it
	@$(PY) -m pipelines.doctor

study: clone setup  ## the main job as a Prefect flow: make study ARGS="--env smax_2s3z --seed 1"
	@$(PY) -m pipelines.study run $(ARGS)

ui: setup  ## the pages of Prefect, MLflow and Optuna, until Ctrl-C
	@$(PY) -m pipelines.ui $(ARGS)

clone:
	@git rev-parse --is-inside-work-tree >/dev/null 2>&1 || \
	  { echo "make run: this is no git clone, and DVC needs one; install git, then git clone the project or git init here" >&2; exit 1; }

# Side by side: alone mypy would take a minute of one core, and the other would wait.
test: setup  ## ruff, mypy and every test but the long ones
	@$(MAKE) --no-print-directory -j 2 lint quick

quick: setup
	@$(PY) -m pytest -m "not long" -n auto --dist loadfile --no-loadscope-reorder

test-long: setup  ## the proofs at full size
	@$(PY) -m pytest -m long

lint: setup  ## ruff and mypy alone
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench: setup  ## measure speed
	@$(PY) -m benchmarks

params: setup  ## compose params.yaml: make params ARGS="env=smax_2s3z preset=small finetune.p_mask=0.25"
	@$(PY) -m pipelines.params $(ARGS)

tune: setup  ## better settings by a study that can be stopped: make tune ARGS="masking --trials 20 --workers 2"
	@$(PY) -m pipelines.tuning run $(or $(ARGS),masking)

report: setup  ## draw docs/paper.html of all that is kept, and the page of this clone's run with its data docs
	@$(PY) -m pipelines.paper --page
	@if test -f results/episodes.parquet; then \
	  $(PY) -m pipelines.stages.report && for gate in $(GATES); do $(PY) -m pipelines.stages.gate_$$gate || exit; done; \
	else echo "this clone has no run of its own to draw: make run makes one"; fi

register: setup  ## put the team that was trained last into the registry, with the episodes it was measured by
	@$(PY) -m pipelines.registry register

promote: setup  ## make it champion if it is better on the same games: make promote ARGS="--version 2"
	@$(PY) -m pipelines.registry promote $(ARGS)

rollback: setup  ## back to the champion before
	@$(PY) -m pipelines.registry rollback $(ARGS)

serve: setup  ## answer over HTTP with the champion: make serve ARGS="--port 8080"
	@$(PY) -m pipelines.serving $(ARGS)
