"""Parts of an update as CUDA graphs: captured once for each set of shapes, then replayed by one call, not thousands.

What the reference does on the CPU a GPU does with the same code, but for how it sums weights' gradients over steps
(deferred_gradients.py), what is compiled (fused.py), and kernels that are written for it (kernels.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from weakref import ref

import torch
from torch import Tensor

from rmiov2.types import UserError

Result = TypeVar("Result")
Other = TypeVar("Other")
Inputs = dict[str, Tensor]
WARM = 3  # calls before a capture: what libraries and optimisers set up at first must not be captured


def device_of(name: str, precision: str = "float32") -> torch.device:
    """The device that the settings name; raises UserError where this machine has none.

    precision: of all matrix products of the GPU from now on, float32 or tf32, whose inputs have 10 bits of mantissa.
    """
    if name == "cpu":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise UserError(
            "device: got cuda, but torch sees no GPU here; set device=cpu, or install a torch built for CUDA"
        )
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return torch.device(name)


def forked(device: torch.device) -> AbstractContextManager[None]:
    """torch's own generators come back as they were: that of the CPU and that of the device."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@dataclass
class _Captured:
    graph: Any
    generator: torch.Generator | None  # kept, or another might come to stand at its address
    inputs: Inputs
    result: Any
    given: dict[str, tuple[ref[Tensor], int]] = field(default_factory=dict)  # what was copied last, and its version

    def take(self, part: str, value: Tensor) -> None:
        """Copy the value, unless it is what was copied last; what a region returned is never handed on as it is."""
        last, version = self.given.get(part, (None, 0))
        if last is None or last() is not value or version != value._version:
            self.inputs[part].copy_(value)
            self.given[part] = ref(value), value._version


class Regions:
    """Calls functions of tensors and numbers, in which nothing waits for the device and no shape hangs on a value.

    On a GPU the numbers arrive as tensors, and what is returned is overwritten by the region's next call.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.fixed = device.type == "cuda"  # shapes must recur
        self._calls: dict[Any, int] = {}
        self._captured: dict[Any, _Captured] = {}
        # What runs beside is wide and soon over; the rest, small kernels one after the other, must not wait for it.
        self._stream, self._beside = self._stream_of(-1), self._stream_of(0)

    def _stream_of(self, priority: int) -> Any:
        """The lower its number, the sooner it is served; None where there is no GPU."""
        return torch.cuda.Stream(self.device, priority) if self.fixed else None  # type: ignore[no-untyped-call]

    def forget(self) -> None:
        """Capture anew: the tensors that the graphs wrote to are no longer those in use."""
        self._captured.clear()
        self._calls.clear()

    def run(
        self, name: str, function: Callable[..., Result], generator: torch.Generator | None,
        tensors: Mapping[str, Tensor], **numbers: float,
    ) -> Result:  # fmt: skip
        """function(tensors, **numbers), which may draw from generator, and from torch's own."""
        if not self.fixed or (generator is not None and generator.device.type != self.device.type):
            return function(dict(tensors), **numbers)
        key = name, id(generator), *((part, tuple(value.shape), value.dtype) for part, value in tensors.items())
        if key in self._captured:
            return cast(Result, self._replay(self._captured[key], tensors, numbers))
        self._calls[key] = self._calls.get(key, 0) + 1
        inputs = {part: value.clone() for part, value in tensors.items()}
        scalars = {part: torch.tensor(value, device=self.device) for part, value in numbers.items()}
        if self._calls[key] <= WARM:
            return self._aside(lambda: function(inputs, **scalars))
        self._captured[key] = self._capture(lambda: function(inputs, **scalars), generator, inputs | scalars)
        return cast(Result, self._replay(self._captured[key], tensors, numbers))

    def both(self, one: Callable[[], Result], other: Callable[[], Other]) -> tuple[Result, Other]:
        """What both return, which have nothing to do with one another: a GPU runs them side by side."""
        if not self.fixed:
            return one(), other()
        main = torch.cuda.current_stream(self.device)
        self._beside.wait_stream(main)
        with torch.cuda.stream(self._beside):
            beside = other()
        result = one()
        main.wait_stream(self._beside)
        return result, beside

    def _aside(self, call: Callable[[], Result]) -> Result:
        """On the stream that captures, as torch asks of what warms up."""
        main = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            result = call()
        main.wait_stream(self._stream)
        return result

    def _capture(self, call: Callable[[], Any], generator: torch.Generator | None, inputs: Inputs) -> _Captured:
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream):
            result = call()
        return _Captured(graph, generator, inputs, result)

    @staticmethod
    def _replay(captured: _Captured, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> Any:
        for part, value in tensors.items():
            captured.take(part, value)
        for part, number in numbers.items():
            captured.inputs[part].fill_(number)
        captured.graph.replay()
        return captured.result

    def fill(self, values: Tensor, rows: int) -> Tensor:
        """values (M, ...) and, where shapes must recur, its first row again up to `rows`."""
        if not self.fixed or len(values) == rows:
            return values
        return torch.cat([values, values[:1].expand(rows - len(values), *values.shape[1:])])
