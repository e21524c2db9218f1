"""The paper's findings row by row, whether each is so here, and its tables 1 and 2 beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rmiov2.reporting.estimates import holm
from rmiov2.reporting.methods.reached import decimals, numbers
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table, estimate_cell, interval_cell, values_cell, words_cell
from rmiov2.reporting.variants.worth import (
    HALF,
    A,
    B,
    C,
    Claim,
    Family,
    Paired,
    Verdict,
    claims,
    estimate,
    judged,
    rates,
)
from rmiov2.reporting.words import WHOLE, number, part_name

PRINTED_NOTE = "The paper’s AUC is divided by 100. A dash: not run here."
MAPS = ("2s3z", "3s_vs_5z", "1c3s5z", "corridor")
# RMIOv2, tables 1 and 2: AUC in per cent and L_rec on each of MAPS. The paper's whole method is HALF, p_mask 0.5.
WHOLE_PRINTED = ((93.8, 0.071), (68.8, 0.073), (86.6, 0.443), (61.3, 0.871))
PRINTED = {
    WHOLE: WHOLE_PRINTED,
    A: ((84.3, 0.174), (31.4, 0.193), (80.5, 1.062), (37.5, 1.657)),
    B: ((68.1, 0.151), (32.0, 0.125), (42.3, 0.785), (28.2, 1.453)),
    C: ((8.1, 0.254), (7.3, 0.246), (13.9, 1.534), (6.7, 2.032)),
    "no_masking": ((27.9, 8.76), (10.3, 4.96), (25.4, 15.4), (14.3, 6.39)),
    "p_mask_0.125": ((54.9, 0.136), (30.1, 0.133), (36.2, 0.576), (20.3, 1.032)),
    "p_mask_0.25": ((81.7, 0.102), (53.3, 0.106), (77.9, 0.505), (45.1, 0.982)),
    "p_mask_0.375": ((90.6, 0.091), (65.4, 0.095), (85.4, 0.462), (58.5, 0.892)),
    HALF: WHOLE_PRINTED,
    "p_mask_0.75": ((92.4, 0.079), (69.0, 0.081), (81.3, 0.485), (51.7, 0.961)),
}


def findings_table(found: Family) -> Table:
    """What the paper found, a row each, whether it is so here, and by how much; those that were not run say so."""
    digits = decimals(found.named.values())
    first = found.whole.evaluate
    head = ("the paper’s finding", "here", "difference", "p by Holm", "by seed", "difference in the paper")
    told = {claim: judged(claim, found) for claim in claims(found)}
    adjusted = holm({claim: pair.estimate for claim, (pair, _) in told.items() if pair})
    rows = tuple(Row(said(c), tuple(_finding(c, *told[c], adjusted.get(c), digits))) for c in told)
    return Table(f"The paper’s findings on {first['env']}, {found.whole.scale}", head, rows, words=True)


def said(claim: Claim) -> str:
    """A finding in words, and the paper's own maps on which its numbers say the opposite."""
    relation = "above" if claim.more else "below"
    told = f"{claim.place}, {claim.measure}: {part_name(claim.better)} {relation} {part_name(claim.worse)}"
    against = contrary(claim)
    return f"{told} (in the paper, not on {', '.join(against)})" if against else told


def contrary(claim: Claim) -> list[str]:
    """The maps of tables 1 and 2 on which the paper printed the opposite."""
    return [name for name, value in printed_differences(claim).items() if (value > 0) != claim.more]


def printed_differences(claim: Claim) -> dict[str, float]:
    """Better less worse on each of the maps of tables 1 and 2, AUC from 0 to 1; none where the paper has no numbers."""
    if not claim.place.startswith("table"):
        return {}
    column, scale = {"AUC": (0, 100), "L_rec": (1, 1)}[claim.measure]
    both = zip(MAPS, PRINTED[claim.better], PRINTED[claim.worse], strict=True)
    return {name: (better[column] - worse[column]) / scale for name, better, worse in both}


def _finding(
    claim: Claim, pair: Paired | None, verdict: Verdict, adjusted: float | None, digits: int
) -> Iterator[Cell]:
    yield words_cell("equal in every seed" if pair and not any(pair.values) else verdict)
    yield difference_cell(pair, digits)
    yield p_cell(adjusted)
    yield values_cell(pair.values if pair else (), digits + 1)
    printed = sorted(printed_differences(claim).values())
    yield words_cell(f"{number(printed[0], 3)} to {number(printed[-1], 3)}" if printed else "")


def reproduced_table(found: Family) -> Table:
    """Ours beside the paper's tables 1 and 2."""
    first, digits = found.whole.evaluate, decimals(found.named.values())
    head = ("part", "seeds", "AUC here", "L_rec here", *(f"{name}, paper: AUC / L_rec" for name in MAPS))
    masked = rates(found)
    names = [name for name in PRINTED if name != HALF or name in masked]
    rows = tuple(Row(_rated(name, masked), tuple(_beside(name, found, digits))) for name in names)
    return Table(f"Our results on {first['env']} and the paper’s tables 1 and 2", head, rows)


def _rated(ablation: str, masked: Mapping[str, float]) -> str:
    told = ablation in masked and not ablation.startswith("p_mask")
    return part_name(ablation) + (f", p_mask {masked[ablation]:g}" if told else "")


def _beside(name: str, found: Family, digits: int) -> Iterator[Cell]:
    method = found.named.get(name)
    yield words_cell(str(len(set(numbers(method)))) if method else "")
    yield estimate_cell(estimate(method, "AUC") if method else None, digits)
    yield estimate_cell(estimate(method, "L_rec") if method else None, digits + 1)
    for area, error in PRINTED[name]:
        yield words_cell(f"{area / 100:.3f} / {error:g}")


def difference_cell(found: Paired | None, digits: int) -> Cell:
    """With one digit more than what it is a difference of."""
    return estimate_cell(None if found is None else found.estimate, digits + 1)


def p_cell(p: float | None) -> Cell:
    """A p-value."""
    return ABSENT if p is None else interval_cell(p, None, 3)
