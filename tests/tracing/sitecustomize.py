"""Python imports this at start when the folder is on PYTHONPATH: it notes which settings and code a DVC stage uses.

Inside a stage that DVC runs, $RMIOV2_TRACE/<stage>.json gets {"settings": [section.name], "code": [files]}.
"""

import atexit
import json
import os
import sys
from pathlib import Path
from typing import get_args

IS_FUNCTION = 0x1  # CO_OPTIMIZED: class bodies and modules, which run when imported, lack it


def begin(stage: str, out: Path) -> None:
    from rmiov2 import config

    sections = {"Config": ""}
    for name, field in config.Config.model_fields.items():
        for kind in get_args(field.annotation) or (field.annotation,):  # the agent's section is one of several
            if isinstance(kind, type):  # no choice among words
                sections[kind.__name__] = f"{name}."
    settings: set[str] = set()
    code: set[str] = set()
    get, parse = config.Section.__getattribute__, config.parse

    def get_and_note(self, name):
        if not name.startswith("_") and name in type(self).model_fields:
            settings.add(sections[type(self).__name__] + name)
        return get(self, name)

    def parse_without_notes(values, source):
        before = set(settings)
        try:
            return parse(values, source)
        finally:
            settings.intersection_update(before)

    def note_code(frame, event, arg):
        if event == "call" and frame.f_code.co_flags & IS_FUNCTION:
            code.add(frame.f_code.co_filename)

    def write():
        sys.settrace(None)
        root = os.environ["DVC_ROOT"]
        files = sorted(os.path.relpath(path, root) for path in code if path.startswith(root + os.sep))
        leaves = sorted(settings & set(config.known_keys()))
        (out / f"{stage}.json").write_text(json.dumps({"settings": leaves, "code": files}))

    config.Section.__getattribute__ = get_and_note
    config.parse = parse_without_notes
    atexit.register(write)
    sys.settrace(note_code)  # returns nothing: calls are told, lines are not


if "DVC_STAGE" in os.environ:
    begin(os.environ["DVC_STAGE"], Path(os.environ["RMIOV2_TRACE"]))
