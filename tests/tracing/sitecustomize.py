"""Python imports this at start when the folder is on PYTHONPATH: it notes which settings and code a DVC stage uses.

Inside a stage that DVC runs, $RMIOV2_TRACE/<stage>.json gets {"settings": [section.name], "code": [files]}. A file is
noted where one of its functions runs: each of ours is compiled with a line more at its head, as sys.settrace would call
Python for every function of every library.
"""

import ast
import atexit
import builtins
import json
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from typing import get_args

OURS = ("rmiov2", "pipelines")


class Heads(ast.NodeTransformer):
    """A call of `ran_in(path)` at the head of every function."""

    def __init__(self, path):
        self.note = ast.parse(f"ran_in({path!r})").body[0]

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.body.insert(ast.get_docstring(node, clean=False) is not None, self.note)
        return node

    def visit_Lambda(self, node):
        self.generic_visit(node)
        node.body = ast.Subscript(ast.Tuple([self.note.value, node.body], ast.Load()), ast.Constant(1), ast.Load())
        return node


class Loader(SourceFileLoader):
    """Leaves no bytecode, which others would load."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        tree = Heads(path).visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        spec = super().find_spec(fullname, path, target) if fullname.partition(".")[0] in OURS else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def begin(stage: str, out: Path) -> None:
    code: set[str] = set()
    builtins.ran_in = code.add  # type: ignore[attr-defined]
    sys.meta_path.insert(0, Finder)
    from rmiov2 import config  # whose loader calls its own parse

    sections = {"Config": ""}
    for name, field in config.Config.model_fields.items():
        for kind in get_args(field.annotation) or (field.annotation,):  # the agent's section is one of several
            if isinstance(kind, type):  # no choice among words
                sections[kind.__name__] = f"{name}."
    settings: set[str] = set()
    get, parse = config.Section.__getattribute__, config.parse

    def get_and_note(self, name):
        section = sections.get(type(self).__name__)  # none of a user's method, whose settings are all in agent.settings
        if section is not None and name in type(self).model_fields:
            settings.add(section + name)
        return get(self, name)

    def parse_without_notes(values, source):
        before = set(settings)
        try:
            return parse(values, source)
        finally:
            settings.intersection_update(before)

    def write():
        root = os.environ["DVC_ROOT"]
        files = sorted(os.path.relpath(path, root) for path in code if path.startswith(root + os.sep))
        leaves = sorted(settings & set(config.known_keys()))
        (out / f"{stage}.json").write_text(json.dumps({"settings": leaves, "code": files}))

    config.Section.__getattribute__ = get_and_note
    config.parse = config.loading.parse = parse_without_notes
    atexit.register(write)


if "DVC_STAGE" in os.environ:
    begin(os.environ["DVC_STAGE"], Path(os.environ["RMIOV2_TRACE"]))
