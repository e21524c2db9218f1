"""One named generator per purpose, so that logging or evaluating never shifts what training draws."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from rmiov2.types import UserError

PURPOSES = ("env", "exploration", "replay", "model", "observation_loss")


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one named purpose: the same names give the same seed on every machine."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Generators:
    """The generators of one run: numpy for indices and masks, torch for what is drawn inside the networks."""

    def __init__(self, seed: int, device: str = "cpu") -> None:
        import torch  # here, for a game's own process derives seeds too, and has no use for it

        self.seed = seed
        self.numpy = {name: np.random.default_rng(derive(seed, name)) for name in PURPOSES}
        self.torch = torch.Generator(device).manual_seed(derive(seed, "torch"))

    def env_seed(self, sweep: int) -> int:
        """The seed that the environments of one sweep are reset with; a pure function, so there is nothing to save."""
        return derive(self.seed, "env", sweep)

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready: the state of every generator."""
        states: dict[str, Any] = {name: rng.bit_generator.state for name, rng in self.numpy.items()}
        states["torch"] = self.torch.get_state().numpy().tobytes().hex()
        return states

    def load_state_dict(self, states: dict[str, Any]) -> None:
        """Put every generator where state_dict found it; raises UserError if that was on another device."""
        import torch

        for name, rng in self.numpy.items():
            rng.bit_generator.state = states[name]
        state = torch.frombuffer(bytearray.fromhex(states["torch"]), dtype=torch.uint8)
        if len(state) != len(self.torch.get_state()):
            raise UserError(
                f"the run that was stopped drew its numbers on another device than {self.torch.device.type};"
                " go on with the device it had, or begin anew"
            )
        self.torch.set_state(state)
