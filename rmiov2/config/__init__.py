"""Typed, frozen settings with ranges: sections.py and agents.py say what each key means, loading.py reads them."""

from __future__ import annotations

from rmiov2.config.agents import FACMAC, MAG, MAMBA, MAPPO, QMIX, Agent, LatentPolicy, Own, RMIOv2, label_of
from rmiov2.config.loading import held_before, ignored_keys, known_keys, load, own_settings, parse, upgraded
from rmiov2.config.section import Section
from rmiov2.config.sections import (
    PATTERNS,
    Ablate,
    Collect,
    Config,
    Env,
    Evaluate,
    Execution,
    Finetune,
    Pattern,
    Policy,
    Pretrain,
    Report,
    RewardTrend,
    Stress,
    WorldModel,
    loss_pattern,
)

__all__ = [
    "FACMAC", "MAG", "MAMBA", "MAPPO", "PATTERNS", "QMIX", "Ablate", "Agent", "Collect", "Config", "Env", "Evaluate",
    "Execution", "Finetune", "LatentPolicy", "Own", "Pattern", "Policy", "Pretrain", "RMIOv2", "Report", "RewardTrend",
    "Section", "Stress", "WorldModel", "held_before", "ignored_keys", "known_keys", "label_of", "load",
    "loss_pattern", "own_settings", "parse", "upgraded",
]  # fmt: skip
