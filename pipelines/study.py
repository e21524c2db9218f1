"""The study in Prefect: run it now, on a schedule, or over many settings.

    python -m pipelines.study run                                    this checkout, as `make run` does
    python -m pipelines.study run --env smax_2s3z --seed 1           a workspace in state/studies
    python -m pipelines.study sweep --envs smax_3m smax_2s3z --seeds 0 1 2
    python -m pipelines.study serve --cron "0 3 * * *"               every night at three, until Ctrl-C

With `make ui` running, or PREFECT_API_URL set, the runs show in Prefect's page; else they need no server.
A sweep runs on RMIOV2_RUNNER=thread (default), process or dask, the last on the scheduler at RMIOV2_CLUSTER if given.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import environment, paths
from rmiov2.files import writing
from rmiov2.program import exit_code, parser_of, positive, seed
from rmiov2.types import UserError

if TYPE_CHECKING:
    from rmiov2.config import Config

CHOICES = ("env", "agent", "seed", "p_mask")
HINT = "start `make ui` in another terminal, or set PREFECT_API_URL"
NIGHTLY = "0 3 * * *"
# Where `make ui` leaves the address of its Prefect server while that runs.
SERVER = paths.STATE / "prefect" / "server"


def find_server() -> str | None:
    """The address of the server to use, also set in PREFECT_API_URL; None if there is none.

    Raises UserError if PREFECT_API_URL was set and nobody answers there.
    """
    said = os.environ.get("PREFECT_API_URL") or None
    if said is not None and not answers(said):
        raise UserError(f"PREFECT_API_URL: nobody answers at {said}; start that server, or unset it to run without one")
    if said is None and SERVER.exists() and answers(address := SERVER.read_text().strip()):
        said = os.environ["PREFECT_API_URL"] = address
    return said


def answers(address: str) -> bool:
    """Whether a server is there, be it one that wants a key first or shows a certificate that Prefect alone knows."""
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError, http.client.HTTPException):  # no address at all, or something else listens there
        return False
    return True


def checked(settings: list[str], **choices: Any) -> list[str]:
    """The settings that were chosen, as pipelines.params takes them; raises UserError for one that it would refuse."""
    from pipelines.params import compose_config
    from pipelines.refusals import refuse_impossible
    from pipelines.studies.workspace import overrides_of

    overrides = overrides_of(settings, **choices)
    refuse_impossible(compose_config(overrides))
    return overrides


def room(groups: Sequence[Sequence[str]]) -> int:
    """For how many stages or studies with these settings, none being this checkout's, there are idle cores."""
    from pipelines.studies.fan_out import jobs_for

    return jobs_for([config_of(group) for group in groups])


def config_of(overrides: Sequence[str]) -> Config:
    """The complete settings of a study: this checkout's where nothing was chosen."""
    from pipelines.params import compose_config
    from rmiov2.config import load

    return compose_config(overrides) if overrides else load(paths.PARAMS)


def run(options: argparse.Namespace) -> str:
    """One study; where its page is."""
    chosen = {name: getattr(options, name) for name in CHOICES}
    overrides = checked(options.settings, **chosen)
    from pipelines.refusals import refuse_unrunnable

    refuse_unrunnable(config_of(overrides))  # as the flow does, but before Prefect shows a traceback
    find_server()
    from pipelines import flow
    from pipelines.studies import workspace

    placed = flow.pipeline.with_options(task_runner=flow.threads(options.jobs or room([overrides])))
    placed(**chosen, settings=options.settings, registration=options.registration)
    root = workspace.folder_of(overrides)
    return f"report: {root / 'reports' / 'index.html'}"


def sweep(options: argparse.Namespace) -> str:
    """The product of all that is given; where the results lie side by side."""
    every = itertools.product(options.envs, options.agents or [None], options.p_mask or [None], options.seeds)
    groups = [
        checked(options.settings, **dict(zip(("env", "agent", "p_mask", "seed"), one, strict=True))) for one in every
    ]
    served = find_server() is not None
    from pipelines import sweep
    from pipelines.refusals import refuse_unrunnable

    if sweep.kind() != "thread" and not served:
        raise UserError(f"RMIOV2_RUNNER is {sweep.kind()}, which needs a Prefect server for all its processes; {HINT}")
    if sweep.kind() != "dask":  # whose workers may be other machines
        for group in groups:
            refuse_unrunnable(config_of(group))
    placed = sweep.sweep.with_options(task_runner=sweep.runner(options.jobs or room(groups)))
    return f"sweep: {placed(options.envs, options.seeds, options.agents, options.p_mask, options.settings)}"


def serve(options: argparse.Namespace) -> str:
    """A deployment that waits for its hours, until Ctrl-C."""
    chosen = {name: getattr(options, name) for name in CHOICES}
    checked(options.settings, **chosen)
    if find_server() is None:
        raise UserError(f"got no Prefect server, expected one that keeps the schedule; {HINT}")
    from pipelines import flow

    parameters = {**chosen, "settings": options.settings, "registration": options.registration}
    flow.pipeline.serve(
        name=options.name, cron=options.cron, parameters=parameters, limit=1, global_limit=1, pause_on_shutdown=False
    )
    return f"study: no longer served; its runs are in {os.environ['PREFECT_API_URL'].removesuffix('/api')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 and one sentence on standard error for what the user can mend, or 130 when stopped by Ctrl-C."""
    options = parser().parse_args(arguments)
    environment.prepare()

    def work() -> None:
        home = Path(os.environ["PREFECT_HOME"])
        with writing(home):
            home.mkdir(parents=True, exist_ok=True)
        print(options.work(options))

    return exit_code("study", work, "the same command goes on from what is saved in state/resume")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = parser_of("python -m pipelines.study", __doc__)
    commands = made.add_subparsers(required=True, metavar="run | sweep | serve")
    one, many, served = (_command(commands, work.__name__, work) for work in (run, sweep, serve))
    for command, what in ((one, "stages"), (many, "studies")):
        command.add_argument("--jobs", type=positive, metavar="N", help=f"{what} at once (default: as cores are idle)")
    for command in (one, served):
        command.add_argument("--env", help="an environment with a file in conf/env, such as smax/3m")
        command.add_argument("--agent", help="a file of conf/agent")
        command.add_argument("--seed", type=seed)
        command.add_argument("--p-mask", type=float, help="finetune.p_mask")
        command.add_argument(
            "--no-register", dest="registration", action="store_false", help="leave the registry of models alone"
        )
    served.add_argument("--name", default="nightly", help="of the deployment (default: %(default)s)")
    served.add_argument("--cron", default=NIGHTLY, help='in UTC (default: "%(default)s")')
    many.add_argument("--envs", nargs="+", required=True, metavar="ENV", help="files of conf/env")
    many.add_argument("--seeds", nargs="+", type=seed, default=[0], metavar="SEED", help="default: 0")
    many.add_argument("--agents", nargs="+", metavar="AGENT", help="files of conf/agent")
    many.add_argument("--p-mask", nargs="+", type=float, metavar="P", help="finetune.p_mask")
    return made


def _command(commands: Any, name: str, work: Callable[[argparse.Namespace], str]) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=work.__doc__, description=work.__doc__)
    made.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="any other setting; repeatable"
    )
    made.set_defaults(work=work)
    return made


if __name__ == "__main__":
    sys.exit(main())
