"""Measure speed: every number beside the one it must be compared with, its aim, and whether it was met.

  world_model   world-model updates beside their floor: counted matrix products at this machine's rate for large ones
  imagination   imagined steps and whole policy rounds, likewise
  collection    environment steps in the training loop beside the bare environment under random play
  evaluation    episodes with completion, all p_loss in one wide batch
  latency       one decision of one team, with and without completion
  fusion        parameters and compute of the two fusion modules (Appendix D), on models built and trained
  team_size     parameters, memory and time of a fine-tuning update of 2 to 64 agents, RMIO beside RMIOv2; and a picture
  model_free    MAPPO's environment steps beside the bare environment's, FACMAC's update beside its floor
  methods       an update of every method with a world model, side by side, on smax/3m and HalfCheetah-2x3
  gpu           RMIOv2's updates as CUDA graphs, in float32 and tf32, the same launched one by one, and the CPU
  smac          four games of SMAC beside one, and the adapter's own part of a step; with doubles of the game
  public_code   the same updates by MAMBA's public code, side by side; with --mamba, and --device for a GPU
  orchestration  what DVC and Prefect add to the stages, as a share of the main job; two minutes, on the newest commit

Threads, preset and number of environments are those of params.yaml; small and paper are those of conf/preset.
Run it on an idle machine: other programs spoil a comparison less than a number, but they spoil both.
All of it takes some minutes, most of them at paper size: `--presets small` leaves that out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import environment, paths
from rmiov2 import config
from rmiov2.config import Config
from rmiov2.files import write_bytes, write_json
from rmiov2.program import exit_code, parser_of, positive

if TYPE_CHECKING:
    from benchmarks.table import Row

NAMES = (
    "world_model", "imagination", "collection", "evaluation", "latency", "fusion", "team_size", "model_free",
    "methods", "gpu", "smac", "public_code", "orchestration",
)  # fmt: skip
UNASKED = tuple(name for name in NAMES if name != "public_code")  # which needs code that is not ours
PRESETS = ("small", "paper")
DEFAULT_OUT = paths.ROOT / "bench" / "bench.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 and one sentence on standard error, or 130 when stopped by Ctrl-C. A missed aim is no error."""
    environment.prepare()
    options = parser().parse_args(arguments)
    return exit_code("bench", lambda: measure(options, config.load(paths.PARAMS)), "nothing was written")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = parser_of("python -m benchmarks", __doc__)
    made.add_argument(
        "--only", nargs="+", choices=NAMES, default=list(UNASKED), metavar="NAME", help="default: all but public_code"
    )
    made.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS), help="default: both")
    made.add_argument(
        "--envs", nargs="+", metavar="ENV", help="of fusion: suite/map …, or all (default: those the paper and 3m name)"
    )
    made.add_argument("--mamba", type=Path, metavar="FOLDER", help="of public_code: a clone of jbr-ai-labs/mamba")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of public_code (default: cpu)")
    made.add_argument(
        "--precision", choices=("float32", "tf32"), default="float32", help="of public_code, of our products on a GPU"
    )
    made.add_argument("--repeats", type=positive, default=5, help="the median is taken (default: %(default)s)")
    made.add_argument(
        "--seconds", type=_seconds, default=1.0, help="that a repeat lasts at least (default: %(default)s)"
    )
    made.add_argument("--out", type=Path, default=DEFAULT_OUT, help="default: bench/bench.json; it is replaced")
    return made


def _seconds(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"got {text}, expected more than 0")
    return value


def measure(options: argparse.Namespace, params: Config) -> None:
    """Run the chosen benches, print the table and write the JSON."""
    import torch

    from benchmarks import public_code, team_size
    from benchmarks.table import render, verdict

    if "public_code" in options.only:  # before minutes of measuring are lost
        public_code.refuse_absent(options.mamba, options.device)

    torch.set_num_threads(params.threads)
    machine: dict[str, Any] = {"cores": os.cpu_count(), "threads": params.threads, "torch": str(torch.__version__)}
    machine["load_at_start"] = round(os.getloadavg()[0], 2)
    rows = {name: bench(name, options, params) for name in options.only}
    every = [row for found in rows.values() for row in found]
    print(render(every))
    print(f"{verdict(every)}; {', '.join(f'{name} {value}' for name, value in machine.items())}")
    records = {name: [row.record() for row in found] for name, found in rows.items()}
    write_json(options.out, {"machine": machine, "benches": records})
    if "team_size" in rows:
        write_bytes(options.out.with_name("team_size.png"), team_size.picture(rows["team_size"]))
    print(f"bench: {options.out}")


def bench(name: str, options: argparse.Namespace, params: Config) -> list[Row]:
    """The rows of one of NAMES."""
    from benchmarks import (
        fusion,
        gpu,
        learning,
        methods,
        model_free,
        orchestration,
        playing,
        public_code,
        smac,
        team_size,
    )
    from benchmarks.clock import Effort

    effort = Effort(options.repeats, options.seconds)
    envs = fusion.EVERY if options.envs == ["all"] else options.envs or fusion.ENVS
    runs: dict[str, Callable[[], list[Row]]] = {
        "world_model": lambda: learning.world_model(options.presets, effort),
        "imagination": lambda: learning.imagination(options.presets, effort),
        "collection": lambda: playing.collection(params, effort),
        "evaluation": lambda: playing.evaluation(params, effort),
        "latency": lambda: playing.latency(options.presets),
        "fusion": lambda: fusion.fusion(envs, options.presets),
        "team_size": lambda: team_size.team_size(effort),
        "model_free": lambda: model_free.model_free(effort),
        "methods": lambda: methods.methods(effort),
        "gpu": lambda: gpu.gpu(options.presets, effort),
        "smac": lambda: smac.smac(effort),
        "public_code": lambda: public_code.public_code(options.mamba, options.device, options.precision, effort),
        "orchestration": orchestration.orchestration,
    }
    return runs[name]()


if __name__ == "__main__":
    sys.exit(main())
