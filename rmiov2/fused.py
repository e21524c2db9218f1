"""Small functions that a GPU runs as one or two kernels, compiled by torch, where each operation would be one."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def fused(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function; where its first tensor is on a GPU and a compiler is there, compiled at its first call."""

    @cache
    def compiled() -> Callable[..., Any]:
        return torch.compile(function)

    @wraps(function)
    def call(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        if cast(torch.Tensor, args[0]).is_cuda and compiles():
            return cast(Result, compiled()(*args, **options))
        return function(*args, **options)

    return call


@cache
def compiles() -> bool:
    """Whether what torch compiles for a GPU with is installed: Triton, and a C compiler, which Triton calls."""
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))
