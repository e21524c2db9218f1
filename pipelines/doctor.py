"""Say what is wrong here and how to mend it; what a kill left behind is taken away at once.

python -m pipelines.doctor
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

import psutil

from pipelines import paths
from pipelines.processes.heal import damaged, heal, is_dvc, living
from rmiov2.program import exit_code, parser_of
from rmiov2.types import UserError

STAGES = "pipelines.stages."
ENOUGH = 1e9  # bytes: a run of the default settings writes a tenth


def leftovers() -> Iterator[str]:
    """What a kill left behind is taken away; what its owner has to settle is not."""
    try:
        for sentence in heal(paths.ROOT):
            print(f"mended: {sentence}")
    except UserError as error:
        yield str(error)


def versions() -> Iterator[str]:
    """What is installed in another version than constraints.txt names."""
    for line in (paths.ROOT / "constraints.txt").read_text().splitlines():
        name, pinned, version = line.partition("==")
        if not pinned or name.startswith("#"):
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:  # of an extra that was left out
            continue
        if found.partition("+")[0] != version.strip():
            yield f"{name} is {found}, constraints.txt names {version}; rm .venv/.installed, then make setup"


def orphans() -> Iterator[str]:
    """Stages at work in this folder with no DVC to record what they make."""
    for process in psutil.process_iter():
        try:
            stage = next((word for word in process.cmdline()[1:] if word.startswith(STAGES)), None)
            if stage and process.cwd() == str(paths.ROOT) and not any(is_dvc(above) for above in process.parents()):
                name = stage.removeprefix(STAGES)
                yield f"{name} works without a DVC, so nobody records its result; kill {process.pid}, then make run"
        except psutil.Error:  # it ended while it was looked at, or belongs to somebody else
            continue


def cache() -> Iterator[str]:
    """Objects of DVC's cache that are not what they were."""
    for path in damaged(paths.ROOT, 0, math.inf):
        where = path.relative_to(paths.ROOT)
        yield f"{where} is not what its name says; rm -f {where}, then make pull, or make run if there is no store"


def disk() -> Iterator[str]:
    """Too little room."""
    free = shutil.disk_usage(paths.ROOT).free
    if free < ENOUGH:
        yield f"only {free / 1e6:.0f} MB are free beside {paths.ROOT}; make room, or clone onto another disk"


def examine() -> int:
    """Say what is found: 0 if all is well, else 1."""
    for process in living(paths.ROOT):
        print(f"at work: {' '.join(process.cmdline())} (process {process.pid})")
    wrong = [sentence for check in (leftovers, versions, orphans, cache, disk) for sentence in check()]
    for sentence in wrong:
        print(f"wrong: {sentence}")
    print(f"doctor: {len(wrong) or 'nothing'} wrong in {paths.ROOT}")
    return 1 if wrong else 0


def main() -> int:
    """The command, see the top of this file."""
    parser_of("python -m pipelines.doctor", __doc__).parse_args()
    return exit_code("doctor", examine, "what was mended stays so")


if __name__ == "__main__":
    sys.exit(main())
