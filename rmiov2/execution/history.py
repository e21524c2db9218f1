"""What a team remembers for completion: the last l steps of every agent, what was lost left blank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmiov2.types import Actions, Bools, EnvSpec, Floats, Ints, UserError

LARGEST = 1e9  # size of an observed number; squared and summed it is still far from where float32 ends


@dataclass
class History:
    """The last l steps and the present row of B teams, kept left-aligned so that row 0 is each window's beginning.

    obs (B, l+1, N, O), zeros where lost · seen (B, l+1, N) · act (B, l+1, N) or (B, l+1, N, A) · rows (B,) that there
    are, the present one included · start (B,): the window still reaches back to the episode's first row.
    """

    obs: Floats
    seen: Bools
    act: Actions
    rows: Ints
    start: Bools

    @classmethod
    def empty(cls, spec: EnvSpec, num_envs: int, steps: int) -> History:
        """Of num_envs teams before their first row, with room for `steps` steps."""
        shape = num_envs, steps + 1, spec.num_agents
        return cls(
            obs=np.zeros((*shape, spec.obs_dim), np.float32),
            seen=np.zeros(shape, bool),
            act=np.zeros(shape, np.int64) if spec.discrete else np.zeros((*shape, spec.act_dim), np.float32),
            rows=np.zeros(num_envs, np.int64),
            start=np.ones(num_envs, bool),
        )

    def saw(self, obs: Floats, seen: Bools, first: Bools) -> None:
        """Append the present row: obs (B, N, O) already blanked, seen (B, N); first (B,) empties the window before."""
        self.rows[first], self.start[first], self.seen[first] = 0, True, False
        full = self.rows == self.obs.shape[1]
        if full.any():
            for kept in (self.obs, self.seen, self.act):
                kept[full, :-1] = kept[full, 1:]
            self.rows[full] -= 1
            self.start[full] = False
        index = np.arange(len(self.rows)), self.rows
        self.obs[index], self.seen[index] = obs, seen
        self.rows += 1

    def did(self, act: Actions) -> None:
        """The action taken at the present row, (B, N) or (B, N, A)."""
        self.act[np.arange(len(self.rows)), self.rows - 1] = act


def refuse_actions(act: Actions, spec: EnvSpec) -> None:
    """Raise UserError for a value in act, (..., N) or (..., N, A), that is no action of this game.

    Beyond an agent's own width there is nothing to choose, and zero to fill in.
    """
    widths = np.array(spec.act_widths)
    if spec.discrete:
        low, high = np.zeros_like(widths), widths - 1
    else:
        high = (np.arange(spec.act_dim) < widths[:, None]).astype(np.int64)
        low = -high
    broken = ~((act >= low) & (act <= high))  # NaN compares as false
    if broken.any():
        at = tuple(np.argwhere(broken)[0])
        own = at[-high.ndim :]
        raise UserError(f"act: got {act[at]} from agent {own[0]}, expected {low[own]}..{high[own]}")
