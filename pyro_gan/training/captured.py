"""A compiled call as a CUDA graph: the device's operations are launched all at once.

On small networks a GPU waits for the host to launch its operations one by one. A graph of them is launched as one.
It reads and writes the same memory at each replay, so that a minibatch is copied into the graph's own, and results are
copied out of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3
"""The calls before a capture, in which libraries allocate what they need."""

TIMED = 20
"""The replays by which graphs are compared."""


class Captured:
    """A call on tensors of a CUDA device, captured as a graph.

    Args:
        call: From tensors to a sequence of tensors; it changes nothing but what it is given.
        live: Its first arguments, which are read where they lie at each replay; those elsewhere are copied.
        inputs: Its other arguments, which are copied at each replay.
        device: The device.

    Raises:
        RuntimeError: An operation waits for the device, which none in a graph can.
    """

    def __init__(
        self, call: Callable[..., Any], live: Sequence[Tensor], inputs: Sequence[Tensor], device: torch.device
    ) -> None:
        self.device = device
        self.elsewhere = [number for number, tensor in enumerate(live) if tensor.device != device]
        self.read = moved(live, device)
        self.inputs = [tensor.clone() for tensor in inputs]
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.no_grad(), torch.cuda.stream(stream):
            call(*self.read, *self.inputs)
            with _refusing_to_wait():
                for _ in range(WARM_UPS):
                    call(*self.read, *self.inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that pins a loader's minibatches, may do what they like meanwhile.
        with torch.no_grad(), torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = list(call(*self.read, *self.inputs))

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        """The call's results."""
        number = len(self.read)
        for place in self.elsewhere:
            self.read[place].copy_(tensors[place], non_blocking=True)
        for own, tensor in zip(self.inputs, tensors[number:], strict=True):
            own.copy_(tensor, non_blocking=True)
        with torch.cuda.device(self.device):
            self.graph.replay()
        copies = [torch.empty_like(output) for output in self.outputs]
        torch._foreach_copy_(copies, self.outputs)
        return copies

    def seconds(self) -> float:
        """The time of a replay on the device."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(TIMED):
            self.graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / TIMED


def captured(
    calls: Sequence[Callable[..., Any]], live: Sequence[Tensor], inputs: Sequence[Tensor], device: torch.device
) -> list[Callable[..., Any]]:
    """Calls as graphs, that first which is replayed in the least time; and last the first call itself, without a graph.

    Args:
        calls: Calls with the same results, which take all tensors on the device.
        live: As of :class:`Captured`.
        inputs: As of :class:`Captured`.
        device: The device.
    """
    graphs: list[Captured] = []
    with torch.cuda.device(device):  # which graphs and events take for theirs
        for call in calls:
            try:
                graphs.append(Captured(call, live, inputs, device))
            except Exception:  # a wait for the device, or whatever else compiled code raises
                _leave_capture(device)
        graphs.sort(key=Captured.seconds)
    return [*graphs, lambda *tensors: calls[0](*moved(tensors, device))]


def moved(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors on a device, those that are there already themselves."""
    return [tensor.to(device) for tensor in tensors]


@contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """A context in which operations that wait for the device fail, as they would in a capture, but leave no trace."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _leave_capture(device: torch.device) -> None:
    """End a capture that failed: torch's generator would take itself to be captured until another one succeeds."""
    torch.cuda.synchronize(device)
    with torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
        torch.zeros((), device=device)
