"""Small functions that a GPU runs as few kernels, compiled by torch, where each operation would be one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import torch

VARIANTS = 64  # of one function that are compiled: shapes, with gradients or without, precisions
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def fused(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function; where its first tensor is on a GPU and a compiler is there, compiled when it is first called so."""

    @cache
    def compiled() -> Callable[..., Any]:
        import torch._dynamo.config as settings

        settings.recompile_limit = max(settings.recompile_limit, VARIANTS)  # beyond it torch compiles no more
        return torch.compile(function)

    @wraps(function)
    def call(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        if cast(torch.Tensor, args[0]).is_cuda and compiles():
            return cast(Result, compiled()(*args, **options))
        return function(*args, **options)

    return call


@cache
def compiles() -> bool:
    """Whether what torch compiles for a GPU with is there: Triton, and the C compiler and Python.h that it needs."""
    compilers = os.environ.get("CC"), "gcc", "clang"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    has_compiler = any(name is not None and shutil.which(name) for name in compilers)
    return importlib.util.find_spec("triton") is not None and has_compiler and header.is_file()
