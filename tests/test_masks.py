"""Masks in traced graphs: known ones become places, with the same results, and others stay what they are."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_gan.training.masks import INDEXING, use_places

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


def of_the_rows(rows):
    return rows[rows > 5]


def of_what_is_drawn(rows):
    return rows[torch.rand(2) < 0.5]


def of_what_is_written(rows):
    mask = torch.zeros(2)
    mask[0] = 1.0
    return rows[mask > 0]


def of_a_part_of_what_is_written(rows):
    numbers = torch.zeros(1, 3)
    mask = numbers[0, 1:] > 0  # computed before, of what a view's base holds then
    numbers[0, 1:].add_(1)
    return rows[numbers.view(3)[1:] > 0] * (~mask).sum()


def of_a_mask_from_outside(rows):
    return rows[..., LOWER]


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


KNOWN = [of_a_mask, of_two_indices, of_a_column_and_all, of_a_mask_of_all, of_a_mask_of_none, written, written_twice]
UNKNOWN = [of_the_rows, of_what_is_drawn, of_what_is_written, of_a_part_of_what_is_written, of_a_mask_from_outside]


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
    assert (masks(graph) == 0) == is_known


def test_gradients_are_written_to_places():
    def slopes(rows):
        rows = rows.detach().requires_grad_()
        return torch.autograd.grad(of_a_mask(rows).square().sum(), rows)[0]

    graph = make_fx(slopes)(ROWS)
    use_places(graph)
    assert masks(graph) == 0
    assert torch.equal(graph(ROWS + 1), 2 * (ROWS + 1) * LOWER)
