"""The pages come up together, say where, and leave nothing behind; a taken port is refused."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import psutil
import pytest
from study_cases import ROOT, Throwaway, free_port, until

from pipelines import ui

COMMAND = (sys.executable, "-m", "pipelines.ui")


def recorded_in(folder):
    return os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def test_a_taken_port_is_refused_by_number_and_nothing_is_started(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command, env = [*COMMAND, "--mlflow-port", str(port)], recorded_in(tmp_path)
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert f"port {port} is taken" in done.stderr and "--mlflow-port" in done.stderr


@pytest.mark.long
def test_all_pages_come_up_and_none_is_left_when_they_are_ended(tmp_path):
    project = Throwaway(tmp_path / "project", recorded_in(tmp_path))
    ports = {name: free_port() for name in ("prefect", "mlflow", "optuna")}
    options = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    log = tmp_path / "ui.log"
    with log.open("wb") as out:
        process = subprocess.Popen([*COMMAND, *options], cwd=project.root, env=project.env, stdout=out, stderr=out)
    try:
        until(lambda: "all pages are up" in log.read_text() or process.poll() is not None, 200)
        for port in ports.values():
            assert f"http://127.0.0.1:{port}" in log.read_text()
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).status == 200
        settings = urllib.request.urlopen(f"http://127.0.0.1:{ports['prefect']}/ui-settings", timeout=20).read()
        assert f"127.0.0.1:{ports['prefect']}/api".encode() in settings
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not [child for child in family if child.is_running()]
    assert not (project.root / "state" / "prefect" / "server").exists()


def test_pages_that_end_leave_the_address_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(ui, "SERVER", server := tmp_path / "server")
    with ui.told("http://first/api"):
        assert server.read_text() == "http://first/api"
    assert not server.exists()
    with ui.told("http://first/api"):
        server.write_text("http://second/api")
    assert server.read_text() == "http://second/api"
