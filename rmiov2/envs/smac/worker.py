"""A game's process from inside: it answers requests until it is killed, and a guard sees to it that nothing stays.

python -P -m rmiov2.envs.smac.worker SOURCE MAP PATIENCE FOLDER CONNECTION LIFELINE

FOLDER is this process's temporary one. The last two are file descriptors: a socket, and a pipe that the parent holds
open as long as it lives. Requests are `begin SEED`, `next` and `act ` with N int64. The answer is `row ` with a record
of battle.row_type; or the process ends, and its last words say why. The first message is `here ` with JSON, or
`refused ` and a sentence.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import shutil
import signal
import sys
import time
from multiprocessing.connection import Connection

import numpy as np

from rmiov2.envs.smac.battle import Battle, Source
from rmiov2.types import UserError


def guard(folder: str, connection: int, lifeline: int) -> None:
    """Leave a guard behind: when this process or its parent is gone, however that came, the game goes too.

    The guard is in a group of its own, so that what kills this one's does not reach it. It takes the folder with it, in
    which a game that was killed leaves what it had.
    """
    alive, held = os.pipe()  # `held` closes with this process, and with nothing else: no program started inherits it
    group = os.getpgrp()
    if os.fork():
        os.close(alive)
        return
    os.setpgid(0, 0)
    os.close(held)
    os.close(connection)
    select.select([lifeline, alive], [], [])
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:  # all gone already
        pass
    time.sleep(0.2)  # until the dead write no more
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def source_of(name: str, map_name: str, patience: int) -> Source:
    """module:Class, made with map and patience."""
    module, _, made = name.partition(":")
    source: Source = getattr(importlib.import_module(module), made)(map_name, patience)
    return source


def serve(connection: Connection, battle: Battle) -> None:
    """Answer until the parent has gone."""
    while True:
        verb, _, rest = connection.recv_bytes().partition(b" ")
        if verb == b"act":
            row = battle.play(np.frombuffer(rest, np.int64))
        elif verb == b"begin":
            row = battle.begin(int(rest))
        else:
            row = battle.next()
        connection.send_bytes(b"row " + row.tobytes())


def main(source: str, map_name: str, patience: str, folder: str, connection: str, lifeline: str) -> None:
    """Play one map until killed; what goes wrong in between ends the process, its traceback being the message."""
    guard(folder, int(connection), int(lifeline))
    line = Connection(int(connection))
    try:
        made = source_of(source, map_name, int(patience))
    except UserError as error:
        line.send_bytes(b"refused " + str(error).encode())
        return
    battle = Battle(made)
    line.send_bytes(b"here " + json.dumps({"info": battle.info, "facts": made.facts, "note": made.note}).encode())
    serve(line, battle)


if __name__ == "__main__":
    main(*sys.argv[1:])
