"""A stand-in for StarCraft II: a test double of the game's protocol.

It is started as the game is, answers what the game is asked by the public `smac` package, and fights a plausible small
battle. Its numbers are rounded, its map is a field, its opponent walks at you whatever the difficulty: no result made
with it is ever reported.

    install     puts it into a folder that SC2PATH may name, and tells which of its processes still run
    modes       what goes wrong with it, by STAND_IN_GAME in the environment
    needs       the mark of tests that want the public `smac` package
    units       what units are and which maps have which
    field       where units can be
    battle      the fight, deterministic by seed
    server      the requests of the protocol
    __main__    the process: its arguments, its port, its end
    plays       StarCraft2Env on it, for a process of its own

With smac and pysc2 in a folder beside: `PYTHONPATH=FOLDER python -m pytest tests/test_starcraft.py`.
"""

import os
import sys

# Behind the standard library's: pysc2 brings an old `enum` of its own, which in front of it no Python starts with.
sys.path += [folder for folder in os.environ.get("STAND_IN_PATH", "").split(":") if folder not in ("", *sys.path)]
