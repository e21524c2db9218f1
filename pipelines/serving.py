"""Serve a registered team: MLflow's own scoring server, and in front of it a guard against malformed requests.

    python -m pipelines.serving                   the champion of params.yaml's environment, on port 5055
    python -m pipelines.serving --version 3 --port 8080

POST /invocations takes {"inputs": {"obs": ..., "act": ..., "avail": ..., "rows": ..., "start": ...}}, windows as in
rmiov2/execution/window.py with null for what was lost, and answers {"predictions": {"act": ..., "obs": ...}}; obs is
null where an observation was lost and the team does not reconstruct. The server keeps the team that it was started
with; every answer to a window names it in its header x-rmiov2-team.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import numpy as np

from pipelines import environment, paths, registry
from pipelines.models import tracking
from rmiov2.config import load
from rmiov2.program import exit_code, parser_of, port
from rmiov2.types import UserError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LIMIT = 16 * 2**20  # bytes of a request: hundreds of windows
PATH = "/invocations"
TEAM = b"x-rmiov2-team"  # the header that says who answered


class Refused(Exception):
    """A request that goes no further: the HTTP status, and why in a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """An ASGI application around MLflow's: what MLflow would answer with a 5xx, or a page, gets a 4xx and a sentence.

    Left alone, MLflow fails on a missing content type and on deep nesting, and repeats the whole request in its errors.
    """

    def __init__(self, app: Any, names: list[str], team: str) -> None:
        self.app, self.names, self.team = app, names, team

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass everything but invocations through."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        send = _signed(send, self.team)
        try:
            refuse_type(dict(scope["headers"]).get(b"content-type", b"").decode("latin-1"))
            body = await whole_body(receive)
            if body is None:
                return
            await asyncio.to_thread(refuse_content, body, self.names)
        except Refused as error:
            await answer(send, error.status, str(error))
            return
        await self.app(scope, _again(body, receive), _Shortened(send))


def _signed(send: Send, team: str) -> Send:
    """What is sent, with the team in its header."""

    async def signed(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (TEAM, team.encode())]
        await send(message)

    return signed


class _Shortened:
    """Passes a response on; of a refusal only the sentence, since MLflow repeats the request before it."""

    def __init__(self, send: Send) -> None:
        self.send, self.status, self.body = send, 0, b""

    async def __call__(self, message: Message) -> None:
        """One message of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        if not 400 <= self.status < 500:
            await self.send(message)
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                await answer(self.send, self.status, _sentence(self.body))


def _sentence(body: bytes) -> str:
    """What MLflow has to say, without the request."""
    text = body.decode("utf-8", "replace")
    if text.startswith("{"):
        text = str(json.loads(text).get("message", text))
    return text.rsplit("Error: ", 1)[-1].strip()


async def answer(send: Send, status: int, sentence: str) -> None:
    """A refusal in the form of MLflow's own."""
    content = json.dumps({"error_code": "BAD_REQUEST", "message": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def refuse_type(content_type: str) -> None:
    """Raise Refused for anything but JSON in UTF-8: tables cannot hold windows."""
    kind, _, parameters = content_type.lower().replace(" ", "").partition(";")
    if kind != "application/json" or parameters not in ("", "charset=utf-8"):
        raise Refused(415, f"got content type {content_type[:80]!r}, expected application/json")


async def whole_body(receive: Receive) -> bytes | None:
    """The body; None if the client has gone. Raises Refused beyond LIMIT, however it is sent."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > LIMIT:
            raise Refused(413, f"got more than {LIMIT >> 20} MiB, expected less; send fewer windows at a time")
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """What was received, for the application behind."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def refuse_content(body: bytes, names: list[str]) -> None:
    """Raise Refused unless the body is {"inputs": {name: numbers}} with exactly these names."""
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise Refused(400, "the request is nested too deeply, expected arrays of at most four dimensions") from error
    except ValueError as error:  # of JSON, or of UTF-8
        raise Refused(400, f"the request is no JSON: {error}") from error
    if not isinstance(content, dict) or list(content) != ["inputs"] or not isinstance(content["inputs"], dict):
        raise Refused(400, 'expected {"inputs": {...}} and nothing else')
    if sorted(content["inputs"]) != sorted(names):
        got = ", ".join(sorted(content["inputs"]))
        raise Refused(400, f"inputs: got {got[:200] or 'nothing'}, expected {', '.join(names)}")
    for name in names:
        refuse_other_than_numbers(name, content["inputs"][name])


def refuse_other_than_numbers(name: str, value: Any) -> None:
    """Raise Refused for ragged arrays and for anything in them that is no number, true, false or null."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and all(entry is None or isinstance(entry, int | float) for entry in array.flat):
            array = array.astype(np.float32)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Refused(400, f"{name}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise Refused(400, f"{name}: got something that is no number and not null")


def make_app(uri: str) -> Any:
    """MLflow's scoring server on a model, guarded."""
    import mlflow
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(uri)
    return Guard(scoring_server.init(model), model.metadata.get_input_schema().input_names(), uri)


def chosen(env: str, version: str) -> tuple[str, str]:
    """(model, version) to serve: the champion, or the version that is asked for."""
    client, model = tracking.open_store(), tracking.name_of(env)
    found = str(registry.chosen(client, model, version).version) if version else registry.champion_of(client, model)
    if not found:
        raise UserError(f"{model} has no champion; `make promote` makes one, --version N serves another")
    return model, found


def listening_at(host: str, port: int) -> socket.socket:
    """A socket that waits there; raises UserError where it may not, or another one does."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UserError(f"{host}:{port}: {error.strerror}; choose others: --host, --port") from error


def serve(options: argparse.Namespace) -> None:
    """Until it is stopped."""
    import uvicorn

    model, version = chosen(options.env or load(paths.PARAMS).env.name, options.version)
    listening = listening_at(options.host, options.port)
    app = make_app(f"models:/{model}/{version}")
    where = f"http://{options.host}:{options.port}{PATH}"
    print(f"serving: {model} version {version} at {where}; Ctrl-C stops it", flush=True)
    with suppress(KeyboardInterrupt):  # which uvicorn hands on when it has ended
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])


def main() -> int:
    """0 when it was stopped, 130 if it did not serve yet, or 2 and one sentence on standard error."""
    parser = parser_of("python -m pipelines.serving", __doc__)
    parser.add_argument("--env", metavar="NAME", help="suite/map (default: that of params.yaml)")
    parser.add_argument("--version", default="", help="of the registered model (default: the champion)")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, this machine alone")
    parser.add_argument("--port", type=port, default=5055, help="default: %(default)s")
    options = parser.parse_args()
    environment.prepare()

    def work() -> None:
        with tracking.one_sentence():
            serve(options)

    return exit_code("serving", work, "it did not serve yet")


if __name__ == "__main__":
    sys.exit(main())
