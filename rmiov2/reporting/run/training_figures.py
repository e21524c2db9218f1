"""How it was learned: the learning curve, imagination against reality, the losses, and masked fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from rmiov2.reporting.style import CYCLE, Picture, canvas, label_ends, png, reference_line
from rmiov2.reporting.words import count, decimals_of, measure_name, number, significant, with_interval

if TYPE_CHECKING:
    from pandas import DataFrame, Series

LOSSES = {
    "loss_obs": "observation",
    "loss_rew": "reward",
    "loss_avail": "availability",
    "loss_con": "continuation",
    "loss_kl": "KL",
}


def learning_picture(learning: DataFrame, evaluate: Mapping[str, Any]) -> Picture:
    """Greedy performance while pre-training, with the level of random play."""
    measure = measure_name(evaluate)
    figure = canvas()
    axes = figure.add_subplot()
    axes.fill_between(learning["env_steps"], learning["lo"], learning["hi"], color=CYCLE[0], alpha=0.15, lw=0)
    axes.plot(learning["env_steps"], learning["performance"], "o-", color=CYCLE[0], ms=4, mec="white", mew=0.6)
    counted_axis(axes, float(learning["env_steps"].max()))
    if evaluate["measure"] == "win_rate":
        axes.set_ylim(0, max(0.05, 1.08 * float(max(learning["hi"].max(), evaluate["random"]))))
    axes.set_title(measure)
    label_ends(axes, [reference_line(axes, evaluate["random"], "random play")])
    digits = decimals_of(evaluate)
    last, best = learning.iloc[-1], learning.loc[learning["performance"].idxmax()]
    said = {row: number(learning["performance"].iloc[row], digits) for row in (0, -1)}
    at_best = f"; its best is {number(best['performance'], digits)} at {count(best['env_steps'])} steps"
    peak = at_best if best["performance"] > last["performance"] else ""
    caption = (
        f"Greedy {measure} with full sight during pre-training, {count(last['episodes'])} episodes per point with 95 % "
        f"intervals. It ends at {with_interval(last['performance'], (last['lo'], last['hi']), digits)} after "
        f"{count(last['env_steps'])} environment steps{peak}; random play reaches {number(evaluate['random'], digits)}."
    )
    alt = f"Line chart: {measure} over environment steps, from {said[0]} to {said[-1]}."
    return Picture("learning", "Learning curve", caption, alt, png(figure), _table(learning))


def imagination_picture(pretraining: DataFrame) -> Picture | None:
    """What the policy was promised against what it got; None where the run did not record both."""
    for quantity in ("return", "reward"):
        columns = [f"imagined_{quantity}", f"real_{quantity}"]
        if all(column in pretraining and pretraining[column].notna().any() for column in columns):
            return _imagination(pretraining[["env_steps", *columns]], quantity)
    return None


def _imagination(table: DataFrame, quantity: str) -> Picture:
    figure = canvas()
    axes = figure.add_subplot()
    ends, finals = [], {}
    for side, colour in (("imagined", CYCLE[1]), ("real", CYCLE[0])):
        drawn = table[["env_steps", f"{side}_{quantity}"]].dropna()
        _, finals[side] = _smoothed(axes, drawn["env_steps"], drawn[f"{side}_{quantity}"], colour)
        ends.append((finals[side], side, colour))
    counted_axis(axes, float(table["env_steps"].max()))
    axes.set_title(f"{quantity} of the same policy")
    label_ends(axes, ends)
    caption = (
        f"The {quantity} that the world model promises and the one that the environment pays, per training round "
        f"(thin) and as a running median (thick). At the end: {significant(finals['imagined'])} imagined, "
        f"{significant(finals['real'])} real. Imagined far above real would mean "
        "that the policy has found the model’s errors."
    )
    alt = f"Two lines over environment steps: imagined and real {quantity}."
    return Picture("imagination", "Imagined and real", caption, alt, png(figure), _table(table))


def exploration_picture(pretraining: DataFrame, evaluate: Mapping[str, Any]) -> Picture | None:
    """How undecided the policy still is while it collects, and what it wins so; None where that is not recorded."""
    if "entropy" not in pretraining or pretraining["entropy"].isna().all():
        return None
    drawn = pretraining[["env_steps", "entropy"]].dropna()
    figure = canvas()
    axes = figure.add_subplot()
    begun, final = _smoothed(axes, drawn["env_steps"], drawn["entropy"], CYCLE[0])
    counted_axis(axes, float(pretraining["env_steps"].max()))
    axes.set_title("entropy of the policy, nats per agent")
    caption = (
        f"How undecided the policy is, per training round (thin) and as a running median (thick): from "
        f"{significant(begun)} to {significant(final)} nats."
    )
    if battles := evaluate["measure"] == "win_rate" and "won" in pretraining:
        last = pretraining["won"].tail(max(1, len(pretraining) // 15)).mean()
        caption += (
            f" With the actions that it drew to explore, it won {number(last, decimals_of(evaluate))} of its games at "
            "the end. A policy that hardly wins so while its entropy stays high may be asked for too much of it: try a "
            "lower policy.entropy."
        )
    alt = f"Line over environment steps: the policy’s entropy, from {significant(begun)} to {significant(final)} nats."
    data = _table(pretraining[["env_steps", "entropy", *(["won"] if battles else [])]])
    return Picture("exploration", "Exploration", caption, alt, png(figure), data)


def losses_picture(pretraining: DataFrame) -> Picture | None:
    """The parts of the world model's loss while pre-training; None where the run recorded none."""
    present = [name for name in LOSSES if name in pretraining and pretraining[name].notna().any()]
    if not present:
        return None
    figure = canvas()
    axes = figure.add_subplot()
    ends, said = [], []
    for name, colour in zip(present, CYCLE, strict=False):
        drawn = pretraining[["env_steps", name]].dropna()
        begun, final = _smoothed(axes, drawn["env_steps"], drawn[name], colour)
        ends.append((final, LOSSES[name], colour))
        said.append(f"{LOSSES[name]} {significant(begun)} to {significant(final)}")
    counted_axis(axes, float(pretraining["env_steps"].max()))
    positive = bool((pretraining[present].dropna(how="all").min() > 0).all())
    if positive:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("loss per step" + (" (logarithmic)" if positive else ""))
    label_ends(axes, ends)
    parts = "; ".join(said)
    caption = f"The parts of the world model’s loss, per round (thin) and as a running median (thick): {parts}."
    alt = f"Lines over environment steps: {', '.join(LOSSES[name] for name in present)} loss."
    data = _table(pretraining[["env_steps", *present]])
    return Picture("model_losses", "World-model losses", caption, alt, png(figure), data)


def finetune_picture(finetuning: DataFrame, metrics: Mapping[str, Any]) -> Picture | None:
    """L_rec on the lost agents of held-out episodes over masked updates; None where nothing is reconstructed."""
    if "l_rec" not in metrics:
        return None
    before, after = metrics["l_rec"]["before"], metrics["l_rec"]["after"]
    measured = finetuning[["update", "l_rec"]].dropna()
    figure = canvas()
    axes = figure.add_subplot()
    axes.plot(measured["update"], measured["l_rec"], "o-", color=CYCLE[0], ms=4, mec="white", mew=0.6, clip_on=False)
    counted_axis(axes, max(float(finetuning["update"].max()), 1), "masked updates")
    axes.set_ylim(0, 1.12 * max(before, after, measured["l_rec"].max() if len(measured) else 0.0, 1e-6))
    axes.set_title("$L_{rec}$ on lost agents, held-out episodes")
    first = reference_line(axes, before, f"before {significant(before)}")
    label_ends(axes, [first, (after, f"after {significant(after)}", CYCLE[0])])
    fell = f"{'falls' if after < before else 'goes'} from {significant(before)} to {significant(after)}"
    caption = (
        f"Reconstruction loss of lost observations, on episodes that the model never trained on: it {fell} "
        f"in {count(metrics['updates'])} masked updates, with the policy frozen."
    )
    alt = f"Line chart: reconstruction loss over updates, {significant(before)} before and {significant(after)} after."
    return Picture("finetune", "Masked fine-tuning", caption, alt, png(figure), _table(finetuning))


def _smoothed(axes: Axes, steps: Series[Any], values: Series[Any], colour: str) -> tuple[float, float]:
    """Draw the values thin and their running median thick; the first and the last median."""
    median = running_median(values)
    if not median.equals(values):
        axes.plot(steps, values, color=colour, lw=0.7, alpha=0.35)
    axes.plot(steps, median, color=colour, lw=2)
    return float(median.iloc[0]), float(median.iloc[-1])


def running_median(values: Series[Any]) -> Series[Any]:
    """Over a fifteenth of them."""
    return values.rolling(max(1, len(values) // 15), min_periods=1, center=True).median()


def counted_axis(axes: Axes, last: float, what: str = "environment steps") -> None:
    """From nothing to the last of what is counted."""
    axes.set_xlim(0, last)
    axes.xaxis.set_major_formatter(thousands)
    axes.set_xlabel(what)


def thousands(value: float, _: float = 0) -> str:
    """12k for 12000, 2M for 2000000, as a tick says it."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _table(table: DataFrame) -> bytes:
    return str(table.to_csv(index=False, lineterminator="\n")).encode()
