"""Masks in a traced graph: those that the code alone decides on index by the places where they hold.

How many places a mask picks decides on the shape of what is picked. Compiled code would have to wait for that number,
and a graph of a CUDA device can not; of places the shape is known before. Torch's maps to correlations index by masks
such as `torch.arange(n) < torch.arange(n).view(-1, 1)`.
"""

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.node import map_arg

INDEXING = torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default


def use_places(graph: fx.GraphModule) -> None:
    """Have a graph index by places where masks are computed from numbers in the code by torch's own functions.

    Args:
        graph: The graph, as `make_fx` records it. What computes the masks stays, though nothing reads it any more, so
            that graphs of other masks are other graphs.
    """
    places: dict[fx.Node | None, list[fx.Node]] = {}
    for number, (mask, value) in enumerate(_values(graph.graph, _known_masks(graph.graph)).items()):
        places[mask] = []
        for dimension, tensor in enumerate(value.nonzero(as_tuple=True)):
            name = f"_places_{number}_{dimension}"
            graph.register_buffer(name, tensor)
            with graph.graph.inserting_after(mask):
                places[mask].append(graph.graph.get_attr(name))
    for node in graph.graph.nodes:
        if node.target in INDEXING:
            indices = [each for index in node.args[1] for each in places.get(index, [index])]
            node.args = (node.args[0], indices, *node.args[2:])
    graph.recompile()


def _known_masks(graph: fx.Graph) -> list[fx.Node]:
    """The masks among indices that depend on nothing but the code. They have a dimension at least."""
    written, known = _written(graph), set[fx.Node]()
    for node in graph.nodes:
        if _is_computed(node) and node not in written and known.issuperset(node.all_input_nodes):
            known.add(node)
    indices = [index for node in graph.nodes if node.target in INDEXING for index in node.args[1]]
    values = {index: index.meta.get("val") for index in dict.fromkeys(indices) if index in known}
    return [node for node, value in values.items() if value is not None and value.dtype == torch.bool and value.dim()]


def _is_computed(node: fx.Node) -> bool:
    """Whether a node is one of torch's own functions, which gives the same at each run and changes nothing."""
    operation = node.target
    if not isinstance(operation, OpOverload) or operation.namespace != "aten":
        return False
    return not operation._schema.is_mutable and torch.Tag.nondeterministic_seeded not in operation.tags


def _written(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose memory may be written to: by an operation in place, or through a view of them."""
    found = set[fx.Node]()
    for node in reversed(graph.nodes):
        for user in node.users:
            only_indexes = user.target in INDEXING and user.args[0] is not node
            if not only_indexes and (_writes(user) or (_may_be_view(user) and user in found)):
                found.add(node)
    return found


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _may_be_view(node: fx.Node) -> bool:
    """Whether a node may share memory with what it is computed from; one of several results may."""
    if isinstance(node.target, OpOverload):
        return any(result.alias_info is not None for result in node.target._schema.returns)
    return node.op != "call_function" or node.target is operator.getitem


def _values(graph: fx.Graph, wanted: list[fx.Node]) -> dict[fx.Node, Tensor]:
    """What such nodes compute."""
    needed, pending = set[fx.Node](), list(wanted)
    while pending:
        if (node := pending.pop()) not in needed:
            needed.add(node)
            pending.extend(node.all_input_nodes)
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node in needed:
            args, keywords = (map_arg(each, values.__getitem__) for each in (node.args, node.kwargs))
            values[node] = node.target(*args, **keywords)
    return {node: values[node] for node in wanted}
