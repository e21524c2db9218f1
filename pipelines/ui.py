"""The pages of Prefect, MLflow and Optuna, together, for this machine alone.

While they run, `python -m pipelines.study` and `make study` show in Prefect's page by themselves. Ctrl-C ends all.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines import environment, paths
from pipelines.models import tracking
from pipelines.processes.dvc_stage import log_of, stop
from pipelines.study import SERVER
from rmiov2.files import write_bytes
from rmiov2.program import exit_code, parser_of, port
from rmiov2.types import UserError

HOST = "127.0.0.1"
PORTS = {"prefect": 4200, "mlflow": 5000, "optuna": 8080}
PATIENCE = 180.0  # seconds until every page must answer
STOPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))  # seconds to wait after each


@dataclass(frozen=True)
class Page:
    """One server: its command, and where it answers when it is up."""

    name: str
    command: list[str]
    port: int
    health: str

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """Its words."""
        return log_of(paths.ROOT, f"ui-{self.name}")

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            urllib.request.urlopen(self.address + self.health, timeout=5).close()
        except OSError:
            return False
        return True


def pages(ports: dict[str, int]) -> list[Page]:
    """The three servers on these ports; raises UserError if runs are not recorded in a database."""
    binaries, here = Path(sys.executable).parent, ["--host", HOST]
    if (store := tracking.uri()).startswith("http") or store == tracking.OFF:
        raise UserError(f"MLFLOW_TRACKING_URI is {store}, expected a database that a page can be started on; unset it")
    artifacts = (paths.STATE / "mlartifacts").as_uri()
    tracker = ["server", "--backend-store-uri", store, "--default-artifact-root", artifacts, "--workers", "1"]
    return [
        Page("prefect", [f"{binaries}/prefect", "server", "start", *here], ports["prefect"], "/api/health"),
        Page("mlflow", [f"{binaries}/mlflow", *tracker, *here], ports["mlflow"], "/health"),
        Page("optuna", [f"{binaries}/optuna-dashboard", str(paths.JOURNAL), *here], ports["optuna"], "/api/studies"),
    ]


def refuse_taken(every: Sequence[Page]) -> None:
    """Raises UserError if something listens on a port, since a page of another program would pass for ours, and if
    two pages are to have one.
    """
    if len({page.port for page in every}) < len(every):
        raise UserError(f"got ports {', '.join(str(page.port) for page in every)}, expected one for each page")
    for page in every:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, page.port))
            except OSError as error:
                raise UserError(
                    f"port {page.port} is taken, expected it free for {page.name}; end what has it, or choose another "
                    f"with --{page.name}-port"
                ) from error


@contextmanager
def running(every: Sequence[Page]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start all; nothing of them is left when the block ends, however it does."""
    started: dict[str, subprocess.Popen[bytes]] = {}
    # Else Prefect's page looks for its server at port 4200, whatever port that was given.
    variables = os.environ | {"PREFECT_UI_API_URL": f"{every[0].address}/api"}
    try:
        for page in every:
            page.log.parent.mkdir(parents=True, exist_ok=True)
            with page.log.open("wb") as log:
                command = [*page.command, "--port", str(page.port)]
                started[page.name] = subprocess.Popen(
                    command,
                    cwd=paths.ROOT,
                    env=variables,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        yield started
    finally:
        stop(list(started.values()), STOPS)


@contextmanager
def told(address: str) -> Iterator[None]:
    """Runs find the server at this address, until the block ends or other pages have told them another one."""
    write_bytes(SERVER, address.encode())
    try:
        yield
    finally:
        if SERVER.is_file() and SERVER.read_text() == address:
            SERVER.unlink()


def wait_for(every: Sequence[Page], started: dict[str, subprocess.Popen[bytes]]) -> None:
    """Return when all answer, each said as it comes up; raises UserError if one ends or PATIENCE does."""
    missing, until = list(every), time.monotonic() + PATIENCE
    while missing:
        refuse_ended(every, started)
        if time.monotonic() > until:
            raise UserError(f"{missing[0].name} does not answer after {PATIENCE:.0f} s; see {missing[0].log}")
        for page in [page for page in missing if page.answers()]:
            missing.remove(page)
            print(f"{page.name:8} {page.address}", flush=True)
        time.sleep(0.5)


def refuse_ended(every: Sequence[Page], started: dict[str, subprocess.Popen[bytes]]) -> None:
    """Raises UserError with the last words of a server that has ended."""
    for page in every:
        if (status := started[page.name].poll()) is not None:
            said = page.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise UserError(f"{page.name} ended with {status}: {said[-1]}; see {page.log}")


def show(ports: dict[str, int]) -> None:
    """All pages until Ctrl-C or SIGTERM, or until one ends."""
    every = pages(ports)
    refuse_taken(every)
    for folder in (Path(os.environ["PREFECT_HOME"]), paths.JOURNAL.parent, paths.STATE / "mlartifacts"):
        folder.mkdir(parents=True, exist_ok=True)
    paths.JOURNAL.touch()
    print("ui: starting, half a minute the first time", flush=True)
    with running(every) as started:
        wait_for(every, started)
        with told(f"{every[0].address}/api"):
            print("ui: all pages are up; Ctrl-C ends them", flush=True)
            while True:
                refuse_ended(every, started)
                time.sleep(1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when ended by Ctrl-C or SIGTERM, or 2 and one sentence on standard error."""
    parser = parser_of("python -m pipelines.ui", __doc__)
    for name, usual in PORTS.items():
        parser.add_argument(f"--{name}-port", dest=name, type=port, default=usual, help="default: %(default)s")
    ports = vars(parser.parse_args(arguments))
    environment.prepare()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def work() -> None:
        try:
            show(ports)
        except KeyboardInterrupt:
            print("\nui: all pages are closed; their data stay in state/")

    return exit_code("ui", work, "no page was open")


if __name__ == "__main__":
    sys.exit(main())
