"""What a run says of games that are programs of their own: which build was played, and what broke."""

from __future__ import annotations

from rmiov2.reporting.run.results import Results
from rmiov2.reporting.words import count
from rmiov2.types import UserError

LOST = "episodes_lost"


def game_rows(results: Results) -> list[tuple[str, str]]:
    """The facts that the stages recorded of their games, and the lost episodes of all of them; none without games.

    Raises UserError where two stages played different games: their results belong to no run.
    """
    recorded = {name: metrics["game"] for name, metrics in results.stages().items() if "game" in metrics}
    if not recorded:
        return []
    facts = {name: {key: value for key, value in game.items() if key != LOST} for name, game in recorded.items()}
    (first, expected), *others = facts.items()
    for name, got in others:
        if different := [key for key in {**expected, **got} if got.get(key) != expected.get(key)]:
            key = different[0]
            raise UserError(
                f"{name} was played with {key} {got.get(key)}, {first} with {expected.get(key)}; DVC does not know the"
                " game, so point SC2PATH at the one that you mean and run `dvc repro -f`"
            )
    lost = sum(int(game[LOST]) for game in recorded.values())
    return [*((f"game, {key}", str(value)) for key, value in expected.items()), ("episodes lost", count(lost))]
