"""A gradient function as a graph of tensor operations, compiled.

`make_fx` sees what happens below Python: what Pyro's handlers, the user's code and the gradient of the gradient do to
tensors. TorchInductor makes machine code of it, with random numbers from torch's own generators.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.overrides import TorchFunctionMode

from pyro_gan.players.batch import Batch, tensors_of
from pyro_gan.training.masks import use_places
from pyro_gan.training.step import GradientFunction, Gradients

IS_KNOWN_WELL = torch.__version__ >= "2.13"
"""Whether this is a version of torch of which the compiler's order and caches are known."""

IN_ORDER: dict[str, Any] = {} if IS_KNOWN_WELL else {"reorder_for_locality": False, "reorder_for_peak_memory": False}
"""What keeps the order in which random numbers are drawn, which older versions of torch change."""


class NotCompilable(Exception):
    """A function can not be compiled; the message says why, and what to do."""


class Trace(NamedTuple):
    """The operations of a gradient function."""

    graph: torch.fx.GraphModule
    live: list[Tensor]
    """What it reads beside the minibatch, by reference: its first arguments."""
    parameters: dict[str, Tensor]
    places: list[int | None]
    """Where each field of :class:`Gradients` is among the results; `None` for what there is not."""


def traced(function: GradientFunction, batch: Batch) -> Trace:
    """The operations of a gradient function on a minibatch.

    Raises:
        NotCompilable: It can not be traced.
    """
    from torch._dynamo import config
    from torch.fx.experimental.proxy_tensor import make_fx

    names = list(batch) if isinstance(batch, dict) else None
    parameters: dict[str, Tensor] = {}
    places: list[int | None] = []

    def of_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = function(tensors if names is None else dict(zip(names, tensors, strict=True)))
        parameters.update(found.parameters)
        values = [value for value in flat(found) if value is not None]
        numbers = iter(range(len(values)))
        places.extend(None if value is None else next(numbers) for value in flat(found))
        return tuple(values)

    try:
        # Networks that the user compiled run as they were written.
        with config.patch(error_on_nested_fx_trace=False), LabelsUnseen():
            graph = make_fx(of_tensors, {torch.ops.aten.bernoulli.default: _bernoulli})(*tensors_of(batch))
        use_places(graph)
    except Exception as error:  # whatever an operation raises that can not be traced
        raise NotCompilable(_why_not_traced(error)) from error
    return Trace(graph, _lifted(graph), parameters, places)


class LabelsUnseen(TorchFunctionMode):
    """A context in which labels become one-hot rows without a look at their values, which a trace could not record.

    Those out of range are refused all the same, when the rows are made.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_one_hot if function is one_hot else function)(*args, **(kwargs or {}))


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """As torch's own; where the labels decide on the number of classes, that."""
    if num_classes < 1:
        return one_hot(tensor, num_classes)
    is_known = ((tensor >= 0) & (tensor < num_classes)).all()
    torch._assert_async(is_known, f"one_hot() takes labels from 0 to {num_classes - 1} here, but got others.")
    return tensor.new_zeros(*tensor.shape, num_classes).scatter(-1, tensor.unsqueeze(-1), 1)


def _bernoulli(probabilities: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """As torch's own; the compiler would draw other numbers, in double precision and on CUDA devices."""
    draws = torch.empty_like(probabilities, memory_format=torch.contiguous_format)
    return draws.bernoulli_(probabilities, generator=generator)


def _why_not_traced(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if "data-dependent" in first or "value out of a tracing tensor" in first:
        return (
            "a tensor's value decides what is done, as in `if x.mean() > 0` or .item(). Decide by torch.where, or "
            "before the run"
        )
    return f"they can not be traced ({type(error).__name__}: {first[:200]})"


def _lifted(graph: torch.fx.GraphModule) -> list[Tensor]:
    """Make arguments of all tensors that a graph reads, and return them; numbers that it makes itself stay."""
    arguments: dict[int, torch.fx.Node] = {}
    live: list[Tensor] = []
    lifted: set[str] = set()
    first = next(iter(graph.graph.nodes))
    for node in list(graph.graph.nodes):
        if node.op != "get_attr" or all("lift_fresh" in str(user.target) for user in node.users):
            continue
        tensor = getattr(graph, str(node.target))
        if id(tensor) not in arguments:
            with graph.graph.inserting_before(first):
                arguments[id(tensor)] = graph.graph.placeholder(f"live_{len(live)}")
            live.append(tensor)
        node.replace_all_uses_with(arguments[id(tensor)])
        graph.graph.erase_node(node)
        lifted.add(str(node.target))
    kept = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in lifted - kept:  # what a module still holds, older versions of torch take for an argument too
        delattr(graph, name)
    graph.graph.lint()
    graph.recompile()
    return live


def are_same(graph: torch.fx.GraphModule, other: torch.fx.GraphModule) -> bool:
    """Whether two graphs have the same operations on the same numbers."""
    numbers = (
        [getattr(each, str(node.target)) for node in each.graph.nodes if node.op == "get_attr"]
        for each in (graph, other)
    )
    return graph.code == other.code and all(map(torch.equal, *numbers))


def inductor(graph: torch.fx.GraphModule, examples: list[Tensor]) -> Callable[..., Any]:
    """A graph compiled, with random numbers from torch's own generators.

    Raises:
        NotCompilable: There is no compiler, or it fails.
    """
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx

    try:
        with torch.no_grad(), config.patch(fallback_random=True, **IN_ORDER), _fixed_shapes() as shaped:
            call: Any = compile_fx(graph, [shaped(tensor.detach()) for tensor in examples], **_ways())
    except Exception as error:  # each of the compiler's parts has errors of its own
        first = next(iter(str(error).strip().splitlines()), "")
        text = f"{type(error).__name__}: {first[:200]}"
        if "compiler" in str(error).lower():
            raise NotCompilable(f"no C++ compiler works here ({text}). Install one, such as g++ or clang") from error
        raise NotCompilable(f"the compiler fails ({text})") from error
    return cast(Callable[..., Any], call)


@contextmanager
def _fixed_shapes() -> Iterator[Callable[[Tensor], Tensor]]:
    """A context in which the compiler takes what it made of the same graph before, in other processes too.

    It keeps such things where it knows how shapes are to be taken. Here all are fixed; of tensors that are given to it
    as they are, the compiler makes the sizes symbols.

    Yields:
        What makes a tensor one of fixed shape and no content.
    """
    if not IS_KNOWN_WELL:
        yield lambda tensor: tensor
        return
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv())
    with tracing(TracingContext(mode)):
        yield partial(mode.from_tensor, static_shapes=True)


def _ways() -> dict[str, Any]:
    """How operations are made of others; by one of them older versions of torch draw other numbers, as for dropout."""
    if IS_KNOWN_WELL:
        return {}
    from torch._inductor.decomposition import select_decomp_table

    table = {op: way for op, way in select_decomp_table().items() if op is not torch.ops.aten.bernoulli.p}
    return {"decompositions": table}


def flat(gradients: Gradients) -> tuple[Tensor | None, ...]:
    """All tensors of gradients, but for the parameters."""
    return (*gradients.values, *gradients[2:])
