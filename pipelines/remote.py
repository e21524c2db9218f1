"""Buffers, checkpoints and episode rows to the store and back.

    python -m pipelines.remote push                               to the folder rmiov2-store beside the clone
    python -m pipelines.remote pull --store s3://bucket/folder    from somewhere else, remembered for this clone

S3 takes its keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL names a server other than Amazon's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from pipelines import paths
from pipelines.processes.dvc_stage import ask_dvc, surroundings
from pipelines.processes.heal import heal
from pipelines.studies.workspace import uncommitted
from rmiov2.program import exit_code, parser_of
from rmiov2.types import UserError

NAME = "store"
# What a clone must have from git to know what it has from the store.
TOLD_BY_GIT = ("dvc.yaml", "dvc.lock", "params.yaml", "metrics", "plots")


def refuse_unknown_to_git() -> None:
    """Raises UserError unless git knows what dvc.lock names, without which no clone would find what is pushed."""
    if not paths.ROOT.joinpath("dvc.lock").is_file():
        raise UserError("there is no dvc.lock, so nothing has been run here; `make run`, commit, then push")
    if unknown := uncommitted(*TOLD_BY_GIT):
        told = unknown[0] + (f" and {len(unknown) - 1} more files" if unknown[1:] else "")
        raise UserError(f"{told} not committed, so no clone would find what is pushed; commit, then push again")


def store() -> str:
    """Where the store is."""
    return ask_dvc("config", f"remote.{NAME}.url")


def dvc(*arguments: str) -> None:
    """Run DVC before the user's eyes; raises UserError if it fails, after its own words."""
    command = [sys.executable, "-m", "dvc", *arguments]
    if status := subprocess.run(command, cwd=paths.ROOT, env=surroundings(), check=False).returncode:
        words = f"dvc {' '.join(arguments)} failed with {status}, its own words stand above"
        raise UserError(f"{words}; the store is {store()}, --store names another")


def named(text: str) -> str:
    """The `type` of an option that names a place; raises argparse.ArgumentTypeError for an empty one."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty, expected a folder or s3://bucket/folder; or leave --store out")
    return text


def main() -> int:
    """0, or 2 and one sentence on standard error."""
    parser = parser_of("python -m pipelines.remote", __doc__)
    parser.add_argument("verb", choices=("push", "pull"))
    parser.add_argument(
        "--store", type=named, help="a folder, s3://bucket/folder, or what else DVC knows; remembered for this clone"
    )
    options = parser.parse_args()

    def work() -> None:
        for sentence in heal(paths.ROOT):
            print(sentence)
        if options.verb == "push":
            refuse_unknown_to_git()
        if options.store:
            dvc("remote", "modify", "--local", NAME, "url", options.store)
        dvc(options.verb)
        print(f"{options.verb}: done, store: {store()}")

    return exit_code(options.verb, work, "what is there already is not sent again")


if __name__ == "__main__":
    sys.exit(main())
