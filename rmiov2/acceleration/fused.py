"""What a GPU runs as few kernels where each operation would be one: compiled by torch, or written in Triton."""

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
from torch import Tensor, nn

VARIANTS = 64  # of one function that are compiled: shapes, with gradients or without, precisions
TOGETHER, TILE = 16, 1024  # agents, and rows by columns of their keys, whose attention a warp holds in its registers
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def fused(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, compiled when it is first called on a GPU, where its first argument is, if a compiler is there."""
    return _compiled(function, lambda: True, dynamic=False)


def fused_to_learn(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same where gradients are asked for alone: larger functions take seconds to compile, for each shape."""
    return _compiled(function, torch.is_grad_enabled, dynamic=None)


def _compiled(
    function: Callable[Arguments, Result], where: Callable[[], bool], dynamic: bool | None
) -> Callable[Arguments, Result]:
    """where: compiled at all · dynamic: one kernel for all shapes; None: one for the first, one for all after it."""

    @cache
    def compiled() -> Callable[..., Any]:
        import torch._dynamo.config as settings

        settings.recompile_limit = max(settings.recompile_limit, VARIANTS)  # beyond it torch compiles no more
        return torch.compile(function, dynamic=dynamic)

    @wraps(function)
    def call(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        inside = torch.compiler.is_compiling()  # another one's compilation takes this one along
        if not inside and where() and _on_gpu(args[0]) and compiles():
            return cast(Result, compiled()(*args, **options))
        return function(*args, **options)

    return call


def _on_gpu(first: object) -> bool:
    return (next(first.parameters()) if isinstance(first, nn.Module) else cast(Tensor, first)).is_cuda


def attends(x: Tensor, heads: int) -> bool:
    """Whether attention among the agents of x (M, N, width) is one kernel: Triton is there, and its tiles suit."""
    agents, key = x.shape[1], x.shape[2] // heads
    rows = 1 << (agents - 1).bit_length()
    suits = agents <= TOGETHER and key & (key - 1) == 0 and rows * key <= TILE and x.dtype == torch.float32
    return suits and has_kernels(x)


def has_kernels(x: Tensor) -> bool:
    """Whether what is written in Triton can take x: it is on a GPU, and the compiler is there."""
    return x.is_cuda and compiles()


def compiles() -> bool:
    """Whether what torch compiles for a GPU with is there: Triton, and the C compiler and Python.h that it needs."""
    return torch.compiler.is_compiling() or _finds_compiler()  # what is compiled cannot follow the second


@cache
def _finds_compiler() -> bool:
    compilers = os.environ.get("CC"), "gcc", "clang"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    has_compiler = any(name is not None and shutil.which(name) for name in compilers)
    return importlib.util.find_spec("triton") is not None and has_compiler and header.is_file()
