"""A served team: the same decisions as in Python, live play, and no request that takes the server down."""

import collections
import http.client
import json
import os
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path

import fuzz
import numpy as np
import pytest
from teams_on_shelves import ROOT, measured, running, toy_config
from windows import record

import rmiov2
from pipelines import registry, serving
from pipelines.models import tracking
from rmiov2.execution.window import Window, decide
from rmiov2.types import UserError


class Server:
    """A registered champion behind its address."""

    def __init__(self, address: str, checkpoint: Path) -> None:
        self.where = urllib.parse.urlparse(address)
        self.agent = rmiov2.load(checkpoint)

    def post(self, body: bytes, headers: dict[str, str] = fuzz.JSON) -> tuple[int, bytes]:
        """(status, body) of the answer."""
        connection = http.client.HTTPConnection(self.where.hostname, self.where.port, timeout=60)
        try:
            connection.request("POST", "/invocations", body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Server:
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI")
        team = measured(toy_config(), folder, 0.0)
        registry.register(toy_config(), team)
        registry.promote(tracking.open_store(), "rmiov2-toy-lights", "", 300)
        store = {"DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": tracking.uri()}
    command = [sys.executable, "-m", "pipelines.serving", "--env", "toy/lights", "--port"]
    with running(lambda port: [*command, str(port)], "/ping", folder / "log", **store) as address:
        yield Server(address, team.checkpoint)


def as_request(windows: Window) -> dict:
    """Windows in JSON, lost observations and unknown masks as null."""
    inputs = {}
    for name, part in vars(windows).items():
        lost = np.isnan(part) if part.dtype.kind == "f" else np.zeros(part.shape, bool)
        inputs[name] = np.where(lost, None, part.astype(object)).tolist()
    return {"inputs": inputs}


def test_a_port_that_is_taken_is_refused_before_it_is_told(server: Server) -> None:
    port = server.where.port
    with pytest.raises(UserError, match=rf":{port}: Address already in use.*; choose others"):
        serving.listening_at("127.0.0.1", port)


def test_served_and_in_python_the_champion_does_the_same_in_1000_windows(server: Server) -> None:
    recorded = record(server.agent, 20, 50, 0.5)
    act, obs = decide(server.agent, recorded.windows)
    status, body = server.post(json.dumps(as_request(recorded.windows)).encode())
    assert status == 200, body[:500]
    answer = json.loads(body)["predictions"]
    assert len(act) == 1000 and np.array_equal(answer["act"], act) and len(np.unique(act)) > 3
    assert np.array_equal(np.asarray(answer["obs"], np.float32), obs)


def test_every_answer_names_the_team(server: Server) -> None:
    for request, status in ((as_request(record(server.agent, 1, 1, 0.0).windows), 200), ({"inputs": {}}, 400)):
        connection = http.client.HTTPConnection(server.where.hostname, server.where.port, timeout=60)
        connection.request("POST", "/invocations", json.dumps(request).encode(), fuzz.JSON)
        response = connection.getresponse()
        assert response.status == status
        assert response.getheader("x-rmiov2-team") == "models:/rmiov2-toy-lights/1"
        connection.close()


def test_the_example_plays_a_live_episode(server: Server) -> None:
    command = [sys.executable, str(ROOT / "examples" / "play_over_http.py"), "--env", "toy/lights", "--history", "6"]
    command += ["--url", f"{server.where.geturl()}/invocations", "--p-loss", "0.5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("result: toy/lights at p_loss 0.5:") and "in 12 steps" in done.stdout
    refused = subprocess.run([*command, "--history", "3"], capture_output=True, text=True, env=environment)
    assert refused.returncode == 1 and "the server refused (400): Shape of input (1, 4, 3, 15)" in refused.stderr


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"obs": [[["a"]]]}, 400, "obs: got something that is no number and not null"),
        ({"obs": [[1], [1, 2]]}, 400, "obs: setting an array element with a sequence"),
        ({"rows": [0]}, 400, "rows: got 0..0, expected 1..7"),
        ({"rows": [1.5]}, 400, "rows: got a number that is missing, fractional or huge"),
        ({"start": [2]}, 400, "start: got something else than true and false"),
        ({"act": [[[None] * 3] * 6], "rows": [3]}, 400, "act: got null for an action that was taken"),
        ({"act": None}, 400, "Shape of input () does not match expected shape (-1, 6, 3)."),
        ({"more": [1]}, 400, "inputs: got act, avail, more, obs, rows, start, expected"),
    ],
)
def test_a_malformed_window_is_answered_with_one_sentence(server: Server, change, status, sentence) -> None:
    request = as_request(record(server.agent, 1, 1, 0.0).windows)
    request["inputs"] |= change
    got, body = server.post(json.dumps(request).encode())
    message = json.loads(body)["message"]
    assert got == status and sentence in message and len(message) < 300 and "\n" not in message


def test_too_much_and_the_wrong_kind_are_refused_before_they_are_read(server: Server) -> None:
    assert server.post(b" " * (17 * 2**20))[0] == 413
    assert server.post(b"{}", {})[0] == 415
    assert server.post(b"obs\n1", {"Content-Type": "text/csv"})[0] == 415


def attack(server: Server, seed: int, count: int) -> collections.Counter:
    """Every request is answered below 500 and not in a page; the good one in between still works."""
    good = json.dumps(as_request(record(server.agent, 2, 3, 0.5).windows)).encode()
    wanted, statuses = server.post(good), collections.Counter()
    assert wanted[0] == 200
    for number, (what, headers, body) in enumerate(fuzz.requests(seed, count, json.loads(good))):
        status, answer = server.post(body, headers)
        assert status < 500 and status != 404, f"{status} for request {number}, {what} {headers}: {body[:300]!r}"
        assert isinstance(json.loads(answer), dict)
        statuses[status] += 1
        if number % 100 == 0:
            assert server.post(good) == wanted
    return statuses


def half_sent(server: Server) -> None:
    """Connections that end in the middle of a request, and bytes that are not HTTP."""
    for text in (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: minus\r\n\r\n", b"\x00\xff garbage\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):  # fmt: skip
        with socket.create_connection((server.where.hostname, server.where.port), timeout=20) as raw:
            raw.sendall(text)
            raw.shutdown(socket.SHUT_WR)
            assert not raw.recv(1000).startswith(b"HTTP/1.1 5")


def test_no_malformed_request_takes_the_server_down(server: Server) -> None:
    half_sent(server)
    statuses = attack(server, 0, 400)
    assert statuses[400] > 200 and statuses[415] > 5


@pytest.mark.long
def test_ten_thousand_malformed_requests(server: Server) -> None:
    statuses = attack(server, 1, 10_000)
    print(dict(statuses))
    assert statuses.total() == 10_000 and statuses[400] > 5000
