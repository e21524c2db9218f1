"""What is expected of the data between two stages: tables of facts, and a rule for each thing that may be wrong.

A rule names a Great Expectations class and its arguments; guard.py runs them. Most columns count violations,
of which 0 are expected, or say in words what is wrong, of which none are: Great Expectations skips nulls, so a NaN that
is not counted would pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rmiov2.types import EnvSpec

LARGEST = 1e6  # of an observation or a reward: far beyond any game we know, and its square is still a float32
CURVE_RISE = 4.0  # standard errors by which performance may rise with p_loss, the largest of 15 differences


@dataclass(frozen=True)
class Rule:
    """An expectation by name: what it says of a column, or of arguments["column_list"], and whether it only warns."""

    name: str
    says: str
    column: str
    kind: str = "ExpectColumnValuesToBeBetween"
    arguments: dict[str, Any] = field(default_factory=lambda: {"min_value": 0, "max_value": 0})
    warns: bool = False


@dataclass(frozen=True)
class Table:
    """Facts as a pandas frame, one row per thing; `where` are the columns that say which, `rules` what is expected."""

    name: str
    frame: Any
    where: tuple[str, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Verdict:
    """What came of a rule: the rows it looked at, those that break it, and the first of these in words."""

    rule: Rule
    table: str
    rows: int
    unexpected: int
    places: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.unexpected

    def sentence(self) -> str:
        """The expectation by name, what it says, and where it was broken."""
        more = self.unexpected - len(self.places)
        places = "; ".join(self.places) + (f"; and {more} more" if more > 0 else "")
        return f"{self.rule.name} ({self.rule.says}): {places}"


def between(name: str, says: str, column: str, low: float, high: float | None) -> Rule:
    """A range, ends included; None: no end."""
    return Rule(name, says, column, arguments={"min_value": low, "max_value": high})


def one_of(name: str, says: str, column: str, values: Sequence[Any]) -> Rule:
    """A set of values."""
    return Rule(name, says, column, "ExpectColumnValuesToBeInSet", {"value_set": list(values)})


def nothing_said(name: str, says: str, column: str) -> Rule:
    """A column of words about what is wrong, each of them empty."""
    return one_of(name, says, column, [""])


def folder_rules(trajectories: tuple[int, int], steps: tuple[int, int]) -> tuple[Rule, ...]:
    """Of a folder of shards as a whole."""
    return (
        nothing_said("manifest_is_readable", "the manifest is there, of our format, and whole", "manifest_mistakes"),
        nothing_said("spec_is_the_environments", "it holds games of env.name in params.yaml", "spec_differences"),
        between("no_trajectory_is_lost_or_added", "as many as were collected", "trajectories", *trajectories),
        between("no_step_is_lost_or_added", "as many as were collected", "steps", *steps),
        Rule("sweeps_are_whole", "every sweep begins an episode in each of collect.num_envs games", "episodes_missing"),
    )


def shard_rules() -> tuple[Rule, ...]:
    """Of each shard that the manifest names."""
    return (
        Rule("shard_is_there", "the file that the manifest names exists", "missing"),
        Rule("shard_is_unaltered", "its checksum is the manifest's", "altered"),
        nothing_said("shard_is_readable", "it is a safetensors file", "unreadable"),
        nothing_said("widths_are_the_environments", "its arrays are those that EnvSpec describes", "wrong_arrays"),
        Rule("arrays_end_with_trajectories", "the lengths add up to the rows of every array", "rows_off"),
        nothing_said("manifest_counts_the_shard", "its trajectories and steps are as many as listed", "counts_differ"),
    )


def trajectory_rules(spec: EnvSpec, longest: int, limit: int) -> tuple[Rule, ...]:
    """Of each trajectory; longest: steps of a piece, limit: steps of an episode."""
    return (
        between("length_is_within_limits", "a piece is not longer than a segment or an episode", "length", 1, longest),
        between("episode_is_within_its_limit", "its pieces together keep the limit", "episode_steps", 1, limit),
        Rule("observations_are_finite", "no NaN, no infinity", "obs_not_finite"),
        Rule("state_is_finite", "no NaN, no infinity", "state_not_finite"),
        Rule("rewards_are_finite", "no NaN, no infinity", "rew_not_finite"),
        between("observations_are_in_range", "of a size that can be learned", "obs_largest", 0, LARGEST),
        between("rewards_are_in_range", "of a size that can be learned", "rew_largest", 0, LARGEST),
        Rule("padding_is_zero", "observations beyond an agent's width are zero", "padding_not_zero"),
        Rule("con_is_zero_or_one", "con is 0 where a step ended the game, else 1", "con_not_binary"),
        Rule("nothing_follows_an_end", "con is 1 before the last step", "con_zero_inside"),
        Rule("pieces_continue_what_did_not_end", "it begins where an open piece of its sweep stopped", "orphaned"),
        Rule("won_only_at_an_end", "an episode that was won has ended", "won_without_end"),
        Rule("open_pieces_go_on", "what did not end goes on, or lasted to the limit", "open_end", warns=True),
        Rule("no_trajectory_is_doubled", "no two are equal to the byte", "doubled", warns=True),
        *(_discrete_rules() if spec.discrete else _continuous_rules()),
    )


def agent_rules() -> tuple[Rule, ...]:
    """Of each agent, over a whole folder of shards."""
    return (Rule("observations_change", "an agent does not see the same in every step", "stuck", warns=True),)


def _discrete_rules() -> tuple[Rule, ...]:
    return (
        Rule("actions_are_in_range", "actions are numbers of actions of the agent", "act_out_of_range"),
        Rule("actions_were_available", "the mask allowed the action taken", "act_unavailable"),
        Rule("something_is_always_available", "every agent has an available action in every row", "nothing_available"),
        Rule("availability_is_within_widths", "no action beyond an agent's width is available", "avail_beyond_width"),
    )


def _continuous_rules() -> tuple[Rule, ...]:
    return (Rule("actions_are_in_range", "actions are finite and in [-1, 1]", "act_out_of_range"),)


def file_rules() -> tuple[Rule, ...]:
    """Of results/episodes.parquet as a file."""
    return (
        nothing_said("file_is_readable", "it is there, a Parquet file, and has rows", "unreadable"),
        nothing_said("columns_are_there", "no column is missing", "columns_missing"),
    )


def episode_rules(labels: dict[str, Sequence[Any]], episodes: int, limit: int | None) -> tuple[Rule, ...]:
    """Of each evaluated episode; labels: the values that its naming columns may have."""
    key = ["seed", "mode", "availability", "p_loss", "episode"]
    return (
        *(one_of(f"{name}_is_as_set", "as params.yaml says", name, values) for name, values in labels.items()),
        Rule("values_are_there_and_finite", "no null, no NaN, no infinity", "not_finite"),
        one_of("won_is_zero_or_one", "an episode is won or not", "won", [0, 1]),
        between("length_is_within_the_limit", "1 step to the limit of the environment", "length", 1, limit),
        between("episode_numbers_are_in_range", "0 to evaluate.episodes - 1", "episode", 0, episodes - 1),
        Rule("no_episode_is_doubled", "once", "episode", "ExpectCompoundColumnsToBeUnique", {"column_list": key}),
        Rule("messages_are_counts", "no negative number", "messages", arguments={"min_value": 0}),
        Rule("bytes_are_counts", "no negative number", "bytes", arguments={"min_value": 0}),
        Rule("nothing_lost_costs_nothing", "who has nothing to say is silent", "cost_for_nothing"),
    )


def cell_rules(episodes: int, rates: bool) -> tuple[Rule, ...]:
    """Of each seed, mode, availability and p_loss; rates: the measure is a win rate."""
    rule = between("win_rate_is_a_rate", "within 0 and 1", "performance", 0, 1)
    return (
        Rule("grid_is_complete", "every seed and mode was played at every p_loss", "missing"),
        Rule("nothing_is_beyond_the_grid", "nothing else was played", "beyond_the_grid"),
        between("episode_counts_are_as_set", "evaluate.episodes of each", "episodes", episodes, episodes),
        nothing_said("summary_is_of_these_rows", "metrics/evaluate.json says their mean", "summary_differs"),
        *((rule,) if rates else ()),
    )


def curve_rules() -> tuple[Rule, ...]:
    """Of each curve over p_loss."""
    says = f"performance falls as more is lost, within {CURVE_RISE:g} standard errors"
    return (
        nothing_said("area_is_of_these_rows", "metrics/evaluate.json says their AUC", "auc_differs"),
        Rule("loss_does_not_help", says, "rise", arguments={"max_value": CURVE_RISE}, warns=True),
    )
