"""The process that pysc2 starts in the game's place: `-listen HOST -port N -dataDir FOLDER …`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from .install import record
from .modes import read

WATCH_S = 0.25


def watch_parent(parent: int, linger_s: float) -> None:
    """End this process soon after the one that started it, however that one ended."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    time.sleep(linger_s)
    os._exit(0)


def main() -> None:
    """Listen and serve until told to quit, abandoned or terminated."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-build", type=int, required=True)
    parser.add_argument("-parent", type=int, default=os.getppid())
    parser.add_argument("-listen", required=True)
    parser.add_argument("-port", type=int, required=True)
    parser.add_argument("-dataDir", type=Path, required=True)
    said = parser.parse_known_args()[0]
    modes = read(record(said.dataDir, said.port))
    threading.Thread(target=watch_parent, args=(said.parent, modes.linger_s), daemon=True).start()
    if modes.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(modes.slow_start_s)
    if modes.port_taken:
        sys.exit(f"stand-in for StarCraft II: port {said.port} is taken")
    try:
        listener = socket.create_server((said.listen, said.port))
    except OSError as error:
        sys.exit(f"stand-in for StarCraft II: port {said.port} is taken: {error}")
    from .server import serve  # slow to import, and pysc2 tries the port once a second: it is open already

    serve(listener, modes, said.build)


if __name__ == "__main__":
    main()
