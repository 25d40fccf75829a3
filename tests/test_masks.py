"""Masks in traced graphs: known ones become places, with the same results, and others stay what they are."""

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_gan.training.masks import INDEXING, use_places
from pyro_gan.training.tracing import are_same

ROWS = torch.arange(24.0).reshape(2, 3, 4)
LOWER = torch.ones(3, 4).tril().bool()


def lower(rows):
    """As torch's own maps make it: of numbers in the code alone."""
    return torch.arange(4) < torch.arange(3).view(-1, 1) + 1


def of_a_mask(rows):
    return rows[..., lower(rows)]


def of_two_indices(rows):
    return rows[torch.tensor([1, 0]), torch.arange(3) > 0]


def of_a_column_and_all(rows):
    return rows[:, torch.arange(3) != 1, 1:]


def of_a_mask_of_all(rows):
    return rows[torch.ones(2, 3, 4) > 0]


def of_a_mask_of_none(rows):
    return rows[torch.zeros(2, 3, 4) > 0]


def written(rows):
    result = torch.zeros_like(rows)
    result[..., lower(rows)] = rows[..., lower(rows)] + 1
    return result


def written_twice(rows):
    result = written(rows)
    result[..., lower(rows)] *= 2
    return result


def of_two_masks(rows):
    return rows[torch.arange(2) < 2, None, torch.arange(3) > 0, torch.tensor([1])]


def of_a_mask_and_its_opposite(rows):
    lower_ = lower(rows)
    return torch.cat([rows[..., lower_], rows[..., ~lower_], rows[..., lower_]], 1)


def added_to(rows):
    return torch.zeros(4).index_put((torch.eye(4)[1] == 0,), rows[0, 0, :3], accumulate=True)


def of_the_rows(rows):
    return rows[rows > 5]


def of_what_is_drawn(rows):
    return rows[torch.rand(2) < 0.5]


def of_what_is_written(rows):
    mask = torch.zeros(2)
    mask[0] = 1.0
    return rows[mask > 0]


def of_what_is_written_by_a_view_of_a_view(rows):
    numbers = torch.zeros(1, 3)
    numbers.view(3)[1:].add_(rows[0, 0, 0] + 1)
    return rows[:, numbers[0] > 0]


def of_what_is_written_by_one_of_several_views(rows):
    numbers = torch.zeros(2, 3)
    numbers.unbind(0)[1].add_(rows[0, 0, 0] + 1)
    return rows[numbers > 0]


def of_what_a_loop_writes(rows):
    numbers = torch.zeros(2, 3)
    for row, value in zip(numbers, rows, strict=True):
        row.copy_(value[:, 0])
    return rows[numbers > 8]


def of_what_is_written_as_out(rows):
    numbers = torch.zeros(2, 3)
    torch.mul(rows[:, :, 0], 2, out=numbers[:])
    return rows[numbers > 8]


def of_several_that_are_written(rows):
    numbers = torch.zeros(2, 3)
    torch._foreach_add_(list(numbers.unbind(0)), 1.0)
    return rows[numbers > 0]


def of_a_mask_from_outside(rows):
    return rows[..., LOWER]


def of_a_list(rows):
    return rows[torch.tensor([True, False])]


def of_a_mask_without_dimension(rows):
    return rows.clone().index_put_((torch.zeros(()) == 0,), torch.tensor(5.0))


def masks(graph):
    """How many indices of the graph are masks."""
    is_mask = [
        index.meta["val"].dtype == torch.bool
        for node in graph.graph.nodes
        if node.target in INDEXING
        for index in node.args[1]
        if index is not None and "val" in index.meta
    ]
    return sum(is_mask)


def num_places(graph):
    """How many tensors of places a graph holds."""
    return sum(name.startswith("_places") for name, _ in graph.named_buffers())


KNOWN = [
    *(of_a_mask, of_two_indices, of_a_column_and_all, of_a_mask_of_all, of_a_mask_of_none, written, written_twice),
    *(of_two_masks, of_a_mask_and_its_opposite, added_to),
]
UNKNOWN = [
    *(of_the_rows, of_what_is_drawn, of_what_is_written, of_what_is_written_by_a_view_of_a_view),
    *(of_what_is_written_by_one_of_several_views, of_what_a_loop_writes, of_what_is_written_as_out),
    *(of_several_that_are_written, of_a_mask_from_outside, of_a_list, of_a_mask_without_dimension),
]


@pytest.mark.parametrize("function", [*KNOWN, *UNKNOWN])
def test_results_are_the_same_of_any_rows(function):
    torch.manual_seed(0)
    graph = make_fx(function)(ROWS)
    use_places(graph)
    graph.graph.lint()
    for rows in ROWS, -ROWS + 20:
        torch.manual_seed(1)
        expected = function(rows)
        torch.manual_seed(1)
        assert torch.equal(graph(rows), expected)


@pytest.mark.parametrize(("function", "is_known"), [(each, each in KNOWN) for each in [*KNOWN, *UNKNOWN]])
def test_masks_become_places_where_the_code_alone_decides(function, is_known):
    graph = make_fx(function)(ROWS)
    assert masks(graph) > 0
    use_places(graph)
    assert (masks(graph) == 0) == is_known == (num_places(graph) > 0)


def test_gradients_are_written_to_places():
    def slopes(rows):
        rows = rows.detach().requires_grad_()
        return torch.autograd.grad(of_a_mask(rows).square().sum(), rows)[0]

    graph = make_fx(slopes)(ROWS)
    use_places(graph)
    assert masks(graph) == 0
    assert torch.equal(graph(ROWS + 1), 2 * (ROWS + 1) * LOWER)


def test_graphs_of_other_masks_stay_other_graphs():
    """Two traces are compared for what changes from one run to the next; places are no part of their code."""

    def up_to(number):
        return make_fx(lambda rows: rows[:, torch.arange(3) < number])(ROWS)

    graphs = up_to(1), up_to(2)
    for graph in graphs:
        use_places(graph)
    assert not are_same(*graphs)


def test_masks_in_the_memory_of_numpy_follow_it():
    mask = np.array([True, False])
    graph = make_fx(lambda rows: rows[torch.from_numpy(mask)])(ROWS)
    use_places(graph)
    mask[1] = True
    assert torch.equal(graph(ROWS), ROWS)


def test_a_mask_that_is_used_often_is_kept_once():
    graph = make_fx(lambda rows: sum(rows[..., mask].sum() for mask in [lower(rows)] * 20))(ROWS)
    use_places(graph)
    assert num_places(graph) == 2


def test_masks_that_take_many_operations_take_no_longer():
    """Each is used twice, so that there are 2 to the power of 300 ways from the first to the last."""

    def deep(rows):
        numbers, own = torch.ones(3), rows[0, :, 0]
        for _ in range(300):
            numbers, own = numbers + numbers.cos(), own + own.cos()
        return rows[:, numbers > 1] + rows[0, own.argmax(keepdim=True), 0]

    graph = make_fx(deep)(ROWS)
    use_places(graph)
    assert torch.equal(graph(ROWS), deep(ROWS))
    assert masks(graph) == 0
