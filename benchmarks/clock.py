"""Rates measured side by side, the operations of a piece of work, and the rate at which this machine could do them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.table import NO_AIM, Row, in_flop
from rmiov2.progress import bar
from rmiov2.types import Floats

Work = Callable[[], float]  # does a piece of work and says how much: updates, steps, episodes, FLOP
SQUARE = 2048
FEW, LONG = 3, 45.0


@dataclass(frozen=True)
class Effort:
    """How long to measure: repeats of each, and the seconds that one repeat lasts at least."""

    repeats: int
    seconds: float


def rates(label: str, works: Sequence[Work], effort: Effort) -> Floats:
    """(W, R): what each work, warm already, does per second.

    Each repeat measures all of them, one after the other, so that what else the machine does slows all alike. R is
    effort.repeats, or FEW if these took longer than LONG seconds.
    """
    show, began = bar(label, "repeat"), time.perf_counter()
    measured: list[list[float]] = []
    while len(measured) < effort.repeats and not (len(measured) >= FEW and time.perf_counter() - began > LONG):
        measured.append([_rate(work, effort.seconds) for work in works])
        show(len(measured), effort.repeats)
    show(effort.repeats, effort.repeats)
    return np.asarray(measured).T


def _rate(work: Work, seconds: float) -> float:
    done, began = 0.0, time.perf_counter()
    while True:
        done += work()
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return done / elapsed


def count_flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in one call, backward passes included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def matrix_product() -> Work:
    """A large float32 product, in FLOP: as fast as this machine gets with these threads."""
    left, right, out = (torch.ones(SQUARE, SQUARE) for _ in range(3))

    def work() -> float:
        torch.mm(left, right, out=out)
        return 2.0 * SQUARE**3

    return work


def against_floor(what: str, unit: str, work: Work, limit: float | None, effort: Effort) -> Row:
    """The work's rate beside the floor: the time that its matrix products alone would take at the machine's rate.

    limit: how many times its floor the work may take; None where no aim was set.
    """
    floor, amounts = matrix_product(), list[float]()
    flops = count_flops(lambda: amounts.append(work())) / amounts[0]  # the warm-up, too
    floor()
    measured, product = rates(what, [work, floor], effort)
    rate, peak, slowdown = (float(np.median(x)) for x in (measured, product, product / flops / measured))
    return Row(
        what,
        f"{rate:,.4g} {unit}/s",
        f"{slowdown:.1f}x its floor: {in_flop(flops)} each at {in_flop(peak)}/s",
        NO_AIM if limit is None else f"at most {limit:g}x its floor",
        None if limit is None else slowdown <= limit,
        {"per_second": rate, "flop": flops, "matmul_flop_per_second": peak, "times_floor": slowdown},
    )
