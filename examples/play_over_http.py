"""Play live episodes through a served team, with observations lost on the way.

    make serve                                              in one shell
    python examples/play_over_http.py --env smax/3m         in another

The client holds the last l steps and sends them with null for what was lost; the server remembers nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np

import rmiov2
from rmiov2.envs.base import legalise
from rmiov2.types import Actions, Step


def arrived(values: Any, seen: Any) -> list[Any]:
    """Rows of numbers, (N, .), of which only those of agents in seen (N,) came through."""
    return [row.tolist() if there else [None] * len(row) for row, there in zip(values, seen, strict=True)]


class Window:
    """The last l steps of one game, as the server takes them."""

    def __init__(self, history: int) -> None:
        self.history = history
        self.rows: list[Any] = []
        self.acts: list[Any] = []
        self.start = True  # the window reaches back to the first row

    def saw(self, step: Step, seen: Any) -> None:
        """Append the present row: what arrived of it."""
        self.rows.append(arrived(step.obs[0], seen))
        if len(self.rows) > self.history + 1:
            del self.rows[0], self.acts[0]
            self.start = False

    def request(self, avail: list[Any] | None, lost: Any, resting: Any) -> dict[str, Any]:
        """One window; rows that are not there yet are null, actions not taken yet are `resting`."""
        missing = self.history + 1 - len(self.rows)
        inputs = {
            "obs": [self.rows + [lost] * missing],
            "act": [self.acts + [resting] * missing],
            "rows": [len(self.rows)],
            "start": [self.start],
        }
        return {"inputs": inputs if avail is None else inputs | {"avail": [avail]}}


def ask(url: str, request: dict[str, Any]) -> Any:
    """The joint action of one window; exits with the server's sentence if it refuses."""
    message = urllib.request.Request(url, json.dumps(request).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(message, timeout=60) as response:
            return json.load(response)["predictions"]["act"][0]
    except urllib.error.HTTPError as error:
        sys.exit(f"the server refused ({error.code}): {json.load(error).get('message')}")
    except urllib.error.URLError as error:
        sys.exit(f"no server at {url} ({error.reason}); start one with `make serve`")


def play(options: argparse.Namespace) -> tuple[bool, float, int]:
    """(won, return, steps) of one episode."""
    env, rng = rmiov2.make_env(options.env, num_envs=1, seed=options.seed), np.random.default_rng(options.seed)
    step, window, total, steps = env.reset(), Window(options.history), 0.0, 0
    spec = env.spec
    lost, resting = (
        [[None] * spec.obs_dim] * spec.num_agents,
        [0 if spec.discrete else [0.0] * spec.act_dim] * spec.num_agents,
    )
    while not step.done[0]:
        seen = rng.random(spec.num_agents) >= options.p_loss
        window.saw(step, seen)
        avail = None if step.avail is None else arrived(step.avail[0], seen)  # who is blind has lost its mask too
        act = ask(options.url, window.request(avail, lost, resting))
        window.acts.append(act)
        step = env.step(played(act, step, spec))
        total, steps = total + float(step.rew[0]), steps + 1
    env.close()
    return bool(step.won[0]), total, steps


def played(act: Any, step: Step, spec: Any) -> Actions:
    """What the game does with a choice: an illegal one becomes an idle one."""
    if step.avail is None:
        return np.asarray([act], dtype=np.float32)
    return legalise(np.asarray([act], dtype=np.int64), step.avail, spec)


def main() -> None:
    """Play, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:5055/invocations", help="default: %(default)s")
    parser.add_argument("--env", default="smax/3m", help="default: %(default)s")
    parser.add_argument("--history", type=int, default=20, help="l, as the team was trained (default: %(default)s)")
    parser.add_argument("--p-loss", type=float, default=0.4, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    won, total, steps = play(options)
    outcome = "won" if won else "not won"
    print(f"result: {options.env} at p_loss {options.p_loss:g}: {outcome}, return {total:.3f} in {steps} steps")


if __name__ == "__main__":
    main()
