"""Masks in a traced graph: those that are the same at each run index by the places where they hold.

How many places a mask picks decides on the shape of what is picked. Compiled code would have to wait for that number,
and a graph of a CUDA device can not; of places the shape is known before. Torch's maps to correlations index by masks.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.node import map_arg

INDEXING = torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default


def use_places(graph: fx.GraphModule) -> None:
    """Change a graph, which must not have been compiled yet, so that it indexes by places wherever it can.

    Args:
        graph: The graph, as `make_fx` records it. What the masks were made by stays, though nothing reads it.
    """
    written = _written(graph.graph)
    for node in list(graph.graph.nodes):
        if node.target in INDEXING:
            with graph.graph.inserting_before(node):
                places = [each for index in node.args[1] for each in _places(graph, index, written)]
            node.args = (node.args[0], places, *node.args[2:])
    graph.recompile()


def _places(graph: fx.GraphModule, index: fx.Node | None, written: set[fx.Node]) -> Iterator[fx.Node | None]:
    """What stands in an index's place: as many indices as a known mask has dimensions."""
    mask = None if index is None else _known(index, written)
    if mask is None or mask.dtype != torch.bool:
        yield index
        return
    for places in mask.nonzero(as_tuple=True):
        name = f"_places_{len(graph.graph.nodes)}"
        graph.register_buffer(name, places)
        yield graph.graph.get_attr(name)


def _known(node: fx.Node, written: set[fx.Node]) -> Tensor | None:
    """The value of a node that is computed from numbers of the code alone; `None` of others."""
    operation: Any = node.target
    if node in written:
        return None
    if node.op == "get_attr" and all("lift_fresh" in str(user.target) for user in node.users):
        return cast(Tensor, getattr(node.graph.owning_module, str(operation)))
    if not isinstance(operation, OpOverload) or torch.Tag.nondeterministic_seeded in operation.tags:
        return None
    values = {each: _known(each, written) for each in node.all_input_nodes}
    if any(value is None for value in values.values()):
        return None
    found = operation(*map_arg(node.args, values.get), **map_arg(node.kwargs, values.get))
    return found if isinstance(found, Tensor) else None


def _written(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that are changed in place, and those of which they are views."""
    found, pending = set[fx.Node](), [each for node in graph.nodes for each in _shared(node, is_written=True)]
    while pending:
        if (node := pending.pop()) not in found:
            found.add(node)
            pending.extend(_shared(node))
    return found


def _shared(node: fx.Node, is_written: bool = False) -> list[fx.Node]:
    """The arguments whose memory an operation's result shares; or those alone that it changes in place."""
    if not isinstance(node.target, OpOverload):
        return []
    shared: list[fx.Node] = []
    for argument, value in zip(node.target._schema.arguments, node.args, strict=False):
        if argument.alias_info is not None and (argument.alias_info.is_write or not is_written):
            map_arg(value, shared.append)
    return shared
