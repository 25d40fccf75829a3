r"""Gradient functions, compiled and compared with the eager ones.

A gradient function (:mod:`pyro_gan.training.step`) is traced below Python: Pyro's handlers, the user's code, the
gradient and the gradient of the gradient have all become tensor operations by then. What it reads beside the minibatch,
parameters, buffers and a penalty's weight, becomes arguments, so that nothing that moves along a run is burned in.
TorchInductor compiles the operations; random numbers come from torch's own generators, in the same order.

What can not be seen below Python, such as Python's random numbers, a model that counts its calls, or a branch on a
value, would be frozen as it was in the trace. So an eager run on the same minibatch and random state tells whether
compiled gradients are right, at the first call and at ever rarer later ones. Where they are not, the eager ones are
used, and a warning says why.
"""

import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import pyro
import torch
from pyro.distributions import validation_enabled
from torch import Tensor, nn

from pyro_gan.players.batch import Batch, tensors_of
from pyro_gan.players.first_look import RandomStates, kept_buffers, kept_random_state, random_states, set_random_states
from pyro_gan.processes import quiet
from pyro_gan.training.agreement import LARGEST_JUMP, ROUNDING, agree, distances_of, rounding_unit
from pyro_gan.training.captured import captured, moved
from pyro_gan.training.python_state import python_state
from pyro_gan.training.step import Gradients, Step
from pyro_gan.training.tracing import NotCompilable, Trace, are_same, inductor, traced

MOST_VERSIONS = 8
"""The number of kinds of calls for each of which a function is compiled; further ones are eager."""

ROUNDED_OTHERWISE = 8
"""In how many ways parameters are rounded to see how far gradients jump."""


class Version(NamedTuple):
    """A compiled function for one kind of call."""

    call: Callable[..., Any]
    trace: Trace
    """What it was made of, which tells its arguments and results."""


class Snapshot(NamedTuple):
    """What a call may change."""

    buffers: list[Tensor]
    random_states: RandomStates


class Eager(NamedTuple):
    """An eager run."""

    found: Gradients
    start: Snapshot
    end: Snapshot
    reason: str | None
    """Why compiled code would leave something else behind."""


class Compiled:
    """A gradient function, compiled at its first call of each kind.

    Args:
        step: The step whose gradient function it is.
        player: Whose gradients: the discriminator's or the generator's.

    Attributes:
        reason: Why calls are eager, or `None` where they are not.
        num_compilations: How often the function has been compiled.
        seconds: How long that took.
    """

    def __init__(self, step: Step, player: Literal["discriminator", "generator"]) -> None:
        self.step = step
        self.player = player
        self.function = step.discriminator_gradients if player == "discriminator" else step.generator_gradients
        self.device = step.game.device
        self.reason: str | None = None
        self.num_compilations = 0
        self.seconds = 0.0
        self._versions: dict[Hashable, Version] = {}
        self._calls: dict[Any, int] = {}

    def modules(self) -> list[nn.Module]:
        """The modules that both players call."""
        return [module for player in self.step.game.players().values() for module in player.modules]

    def functions(self) -> list[Any]:
        """The users' callables, and the loss."""
        game = self.step.game
        return [*[player.function for player in game.players().values()], *game.penalties, game.loss]

    def facts(self) -> tuple[Hashable, Hashable]:
        """What a call depends on beside the minibatch and tensors' values: where it changes, all is compiled anew.

        The second part are numbers that the loss and the penalties hold.
        """
        used = [self.step.game.loss, *(self.step.due_penalties() if self.player == "discriminator" else [])]
        return (*_facts(self.modules()), *map(Same, used)), tuple(map(_numbers, used))

    def __call__(self, batch: Batch) -> Gradients:
        """The gradients on a minibatch."""
        if self.reason is not None:
            return self.function(batch)
        kind = (_kind(batch), *self.facts())
        version = self._versions.get(kind)
        is_due = version is None
        if version is not None:
            self._calls[kind] += 1
            is_due = str(self._calls[kind]).strip("0") == "1"  # the first, the 10th, the 100th, ...
        (is_due,) = map(bool, self._greatest(is_due))
        if version is not None and not is_due:
            return _run(version, batch)
        eager = self._eager(batch)  # an error of the user's own is raised here
        kind = (_kind(batch), *self.facts())  # the run may have registered parameters, as after clear_param_store
        version = self._versions.get(kind)
        reason, found = self._agreed(eager.reason), eager.found
        if reason is None:
            try:
                found = self._first(kind, batch, eager) if version is None else self._compared(version, batch, eager)
            except NotCompilable as error:
                reason = str(error)
            reason = self._agreed(reason)
        return found if reason is None else self._go_on_eagerly(reason, eager)

    def _greatest(self, *numbers: float) -> Sequence[float]:
        """The greatest of all processes' numbers: what is computed may hold sums over them, so all compute the same."""
        together = self.step.together
        return numbers if together is None else together.processes.greatest(*numbers)

    def _agreed(self, reason: str | None) -> str | None:
        """Why any process can not use compiled gradients, so that none does."""
        together = self.step.together
        return reason if together is None else next(filter(None, together.processes.gathered(reason)), None)

    def compare_next(self) -> None:
        """Compare the next call of each kind: between runs, users' code may have come to do something else."""
        self._calls = dict.fromkeys(self._calls, 0)

    def __getstate__(self) -> dict[str, Any]:
        """Compiled code is neither copied nor pickled; a copy compiles anew."""
        return {**vars(self), "_versions": {}, "_calls": {}}

    def _first(self, kind: tuple[Hashable, ...], batch: Batch, eager: Eager) -> Gradients:
        """Compile the function for a kind of call, and compare."""
        if len(self._versions) == MOST_VERSIONS:
            raise NotCompilable(
                f"they were asked for in more than {MOST_VERSIONS} ways: minibatches of other shapes or types, other "
                "modes of modules, other parameters. Keep these alike, for example with drop_last=True"
            )
        if any(one[:-1] == kind[:-1] and number == 1 for one, number in self._calls.items()):
            raise NotCompilable(
                "a number of the loss or of a penalty changes from step to step. Keep it in a tensor that is changed "
                "in place, as the weights of pyro_gan.penalties are"
            )
        start = time.perf_counter()
        for version in self._compiled(batch):
            self._restore(eager.start)
            try:
                found = self._compared(version, batch, eager)
            except NotCompilable as error:
                reason = error
                continue
            self._versions[kind], self._calls[kind] = version, 1
            self.num_compilations += 1
            self.seconds += time.perf_counter() - start
            return found
        raise reason

    def _compiled(self, batch: Batch) -> list[Version]:
        """The function compiled in all ways that there are, the fastest first."""
        before = [id(buffer) for buffer in self._buffers()]
        trace, other = self._traced(batch), self._traced(batch)
        if before != [id(buffer) for buffer in self._buffers()]:
            raise NotCompilable("a module replaces its buffers. Have it write into them, with copy_()")
        if not are_same(trace.graph, other.graph):
            raise NotCompilable(
                "what is computed changes from one run to the next, as where Python counts calls. Keep such numbers in "
                "tensors that are changed in place"
            )
        with self._kept(), _without_torchs_warnings():
            is_graph = self.device.type == "cuda" and self.step.together is None
            live = moved(trace.live, self.device) if is_graph else trace.live
            calls = [inductor(trace.graph, [*live, *tensors_of(batch)])]
            if is_graph:
                calls = captured([*calls, trace.graph], trace.live, list(tensors_of(batch)), self.device)
        return [Version(call, trace) for call in calls]

    def _traced(self, batch: Batch) -> Trace:
        with self._kept(), validation_enabled(False), _without_torchs_warnings():
            return traced(self.function, batch)

    def _compared(self, version: Version, batch: Batch, eager: Eager) -> Gradients:
        """Run the compiled function from where the eager one started, and see that they agree.

        Raises:
            NotCompilable: They do not.
        """
        expected = eager.found
        try:
            found = _run(version, batch)
        except Exception as error:  # whatever compiled code raises
            raise NotCompilable(f"compiled code fails ({type(error).__name__}: {str(error)[:200]})") from error
        end = self._snapshot()
        unit = rounding_unit(version.trace.graph, self.device)
        forward, by_eager = (*found[2:3], *found[4:], *end.buffers), (*expected[2:3], *expected[4:], *eager.end.buffers)
        is_other = len(forward) != len(by_eager) or not all(map(partial(agree, unit=unit), forward, by_eager))
        if any(self._greatest(is_other)) or not self._differ_by_rounding(found, eager, batch, unit):
            raise NotCompilable(
                "compiled and eager ones differ, as where they depend on something that is no tensor. Keep what "
                "changes along a run in tensors that are changed in place"
            )
        if end.random_states.has_drawn_by_torch(eager.end.random_states):
            raise NotCompilable("compiled and eager ones do not use the same random numbers")
        return found

    def _differ_by_rounding(self, found: Gradients, eager: Eager, batch: Batch, unit: float) -> bool:
        """Whether gradients differ no more than by rounding.

        Where a rectifier's input is nearly 0, rounding decides its slope, and a gradient may jump. So what is more than
        the usual rounding is compared with how far eager gradients jump when the parameters are rounded otherwise, in
        one of several ways: each crosses other rectifiers.
        """
        distances = self._greatest(*distances_of(found, eager.found))
        if max(distances) <= ROUNDING:
            return True
        if max(distances) > LARGEST_JUMP:
            return False
        farthest = [0.0] * len(distances)
        for seed in range(ROUNDED_OTHERWISE):
            farthest = list(map(max, farthest, self._greatest(*self._jumps(eager, batch, unit, seed))))
            if all(one <= max(ROUNDING, 4 * jump) for one, jump in zip(distances, farthest, strict=True)):
                return True
        return False

    def _jumps(self, eager: Eager, batch: Batch, unit: float, seed: int) -> tuple[float, float]:
        """How far eager gradients and penalties jump when each number of the parameters is rounded up or down."""
        parameters = [tensor for tensor in eager.found.parameters.values() if tensor.is_floating_point()]
        kept = [parameter.detach().clone() for parameter in parameters]
        coins = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in parameters:
                signs = 2 * torch.randint(2, parameter.shape, generator=coins).to(parameter) - 1
                parameter.mul_(1 + signs * max(16 * torch.finfo(parameter.dtype).eps, unit))
        try:
            with self._kept():
                self._restore(eager.start)
                return distances_of(self.function(batch), eager.found)
        finally:
            with torch.no_grad():
                for parameter, value in zip(parameters, kept, strict=True):
                    parameter.copy_(value)

    def _eager(self, batch: Batch) -> Eager:
        """An eager run, after which buffers and random states are what they were."""
        start = self._snapshot()
        with self._kept():
            before = python_state(self.functions())
            found = self.function(batch)
            end, reason = self._snapshot(), None
            if end.random_states.has_drawn_otherwise(start.random_states):
                reason = "random numbers are drawn from Python or NumPy. Draw them with Pyro or torch"
            elif before != python_state(self.functions()):
                reason = (
                    "a call changes Python variables, such as a counter. Keep numbers in tensors that are changed in "
                    "place"
                )
        return Eager(found, start, end, reason)

    def _snapshot(self) -> Snapshot:
        return Snapshot([buffer.clone() for buffer in self._buffers()], random_states(self.device))

    def _restore(self, snapshot: Snapshot) -> None:
        with torch.no_grad():
            for buffer, value in zip(self._buffers(), snapshot.buffers, strict=True):
                buffer.copy_(value)
        set_random_states(self.device, snapshot.random_states)

    def _buffers(self) -> list[Tensor]:
        return [buffer for player in self.step.game.players().values() for buffer in player.buffers()]

    @contextmanager
    def _kept(self) -> Iterator[None]:
        with kept_buffers(*self.modules()), kept_random_state(self.device):
            yield

    def _go_on_eagerly(self, reason: str, eager: Eager) -> Gradients:
        """Say why, and leave all as the eager run left it."""
        self.reason = reason
        self._versions.clear()
        self._restore(eager.end)
        text = f"the {self.player}'s gradients go on eagerly: {reason}; or leave out compile=True."
        with quiet(None if self.step.together is None else self.step.together.processes):
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return eager.found


@contextmanager
def _without_torchs_warnings() -> Iterator[None]:
    """A context without warnings: an eager run has shown the user's own, and those of compiling are torch's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _run(version: Version, batch: Batch) -> Gradients:
    with torch.no_grad():
        found = version.call(*version.trace.live, *tensors_of(batch))
    values: list[Any] = [None if place is None else found[place] for place in version.trace.places]
    parameters = version.trace.parameters
    return Gradients(parameters, tuple(values[: len(parameters)]), *values[len(parameters) :])


def _kind(batch: Batch) -> Hashable:
    names = tuple(batch) if isinstance(batch, dict) else None
    return names, tuple((value.shape, value.stride(), value.dtype) for value in tensors_of(batch))


def use_compiled(step: Step) -> None:
    """Have a step use compiled gradients, those that it has used already where it has."""
    before = [each for each in (step.for_discriminator, step.for_generator) if isinstance(each, Compiled)]
    for each in before:
        each.compare_next()
    if not before:
        step.for_discriminator, step.for_generator = Compiled(step, "discriminator"), Compiled(step, "generator")


class Same:
    """An object as a key: the same as itself alone, and alive as long as the key is.

    Args:
        value: The object.
    """

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _facts(modules: list[nn.Module]) -> tuple[Hashable, ...]:
    """What a call depends on beside values of tensors: modes, and which tensors are read and which are trained.

    Modules of this package that go one way or another by their buffers tell by `may_act` which.
    """
    tensors = [
        tensor for module in modules for part in (module._parameters, module._buffers) for tensor in part.values()
    ]
    registered = [parameter for _, parameter in pyro.get_param_store().named_parameters()]
    return (
        tuple([module.training for module in modules]),
        tuple([cast(Any, module).may_act() for module in modules if getattr(type(module), "turns_by_buffers", False)]),
        tuple(map(_identity, tensors)),
        tuple([tensor is not None and tensor.requires_grad for tensor in tensors]),
        tuple(map(id, registered)),
        tuple([parameter.requires_grad for parameter in registered]),
    )


def _identity(tensor: Tensor | None) -> Hashable:
    """Which tensor it is, and for a graph of a device, which reads fixed addresses, where it lies."""
    if tensor is None:
        return None
    return id(tensor), tensor.dtype, tensor.data_ptr() if tensor.device.type == "cuda" else 0


def _numbers(value: object) -> Hashable:
    """The numbers among an object's attributes, which compiled code has burned in."""
    attributes = getattr(value, "__dict__", {})
    return tuple([(name, each) for name, each in attributes.items() if isinstance(each, bool | int | float | str)])
