"""MAMBA: action fusion alone, and a policy on latent features; Egorov & Shpilman 2022, arXiv 2205.15023."""

from __future__ import annotations

from rmiov2.agents.latent_policy import LatentPolicy


class MAMBA(LatentPolicy):
    """Imagination goes on with one draw from the prior."""
