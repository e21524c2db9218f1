"""The whole study again for several seeds, each in a clone of its own, and their results side by side.

    python -m pipelines.seeds 0 1 2 --jobs 2 env=smax_3m

A seed that has finished is not repeated; one that was stopped goes on. What is kept of each is small: its metrics, its
learning curve, and one picture of all.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines import paths
from pipelines import workspace as workspaces
from pipelines.dvc_stage import kill_all, run_dvc
from pipelines.lifeline import WATCHED
from pipelines.params import compose_values
from rmiov2.types import UserError

SEEDS = paths.ROOT / "docs" / "seeds"


def study_name(overrides: list[str]) -> str:
    """The environment, and the agent where it is not the default one."""
    (env, agent), (_, default) = (
        (values["env"]["name"].replace("/", "-"), values["agent"]["name"])
        for values in (compose_values(overrides), compose_values())
    )
    return str(env if agent == default else f"{env}-{agent}")


def workspace(name: str, seed: int, overrides: list[str]) -> Path:
    """A clone of the committed code with the settings of one seed; the same arguments find it again."""
    folder = paths.STATE / "seeds" / f"{name}-{seed}"
    return workspaces.make(folder, [*overrides, f"seed={seed}"])


def study(folder: Path) -> int:
    """`dvc repro evaluate` in a workspace, its words in its log; the exit status."""
    variables = workspaces.variables(folder) | {WATCHED: str(os.getpid())}
    log = folder.with_suffix(".log")
    print(f"seed: {folder.name} runs, `tail -f {log.relative_to(paths.ROOT)}` watches", flush=True)
    return run_dvc(["repro", "evaluate"], folder, log, lambda line: None, variables)[0]


def studies(folders: list[Path], jobs: int) -> list[int]:
    """Every workspace's exit status; stopped by Ctrl-C or SIGTERM, none of them works on."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(study, folders))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            kill_all()
            raise


def run(seeds: list[int], overrides: list[str], jobs: int) -> Path:
    """Every seed to its end, `jobs` at a time, then the picture; raises UserError if one failed."""
    from rmiov2.reporting import overlay_seeds

    name = study_name(overrides)
    folders = [workspace(name, seed, overrides) for seed in seeds]
    failed = [folder.name for folder, status in zip(folders, studies(folders, jobs), strict=True) if status]
    if failed:
        raise UserError(f"{', '.join(failed)} failed; see state/seeds/*.log, then run the same command again")
    target = SEEDS / name
    for seed, folder in zip(seeds, folders, strict=True):
        workspaces.keep(workspaces.small(folder), target / f"seed-{seed}")
    kept = [target / f"seed-{seed}" for seed in seeds]
    return overlay_seeds(
        [folder / "evaluate.json" for folder in kept],
        [folder / "learning.csv" for folder in kept],
        target / "seeds.png",
    )


def main() -> int:
    """0, or 2 and one sentence on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.seeds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", metavar="SEED or key=value", help="settings as for pipelines.params")
    parser.add_argument("--jobs", type=int, default=1, help="seeds side by side; give each as many threads as are left")
    options = parser.parse_intermixed_args()
    seeds = [int(text) for text in options.what if text.isdecimal()]
    overrides = [text for text in options.what if not text.isdecimal()]
    if wrong := [text for text in overrides if "=" not in text] or (["no seed"] if not seeds else []):
        parser.error(f"got {wrong[0]}, expected seeds and key=value, for instance 0 1 2 env=smax_3m")
    try:
        picture = run(seeds, overrides, options.jobs)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("seeds: stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    print(f"seeds: {picture.relative_to(paths.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
