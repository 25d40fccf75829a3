import numpy as np
import pytest
import torch

from pyro_gan.players.observations import Observations

CPU = torch.device("cpu")
NAN = float("nan")


def trained_on(*arrays, order=(), **named):
    return Observations(named or arrays, CPU, order)


def only(value, observations=None):
    """The only array that comes back, and whether it was a single one."""
    rows, is_single = (observations or trained_on(torch.zeros(8))).rows(value)
    (tensor,) = rows.values() if isinstance(rows, dict) else rows
    return tensor, is_single


@pytest.mark.parametrize("event_shape", [(), (3,), (1,), (2, 4, 4)])
def test_one_observation_and_rows_of_them_are_told_apart(event_shape):
    observations = trained_on(torch.zeros(8, *event_shape))
    one, is_single = only(torch.ones(event_shape), observations)
    assert is_single and one.shape == (1, *event_shape)
    rows, is_single = only(torch.ones(5, *event_shape), observations)
    assert not is_single and rows.shape == (5, *event_shape)


@pytest.mark.parametrize(
    "value",
    [
        np.array([0.0, 1.0, 2.0]),
        np.array([2.0, 1.0, 0.0])[::-1],
        np.array([0.0, 1.0, 2.0], dtype=">f8"),
        np.arange(6.0)[::2] / 2,
        np.array([0, 1, 2], dtype=np.uint8),
        np.array([0.0, 1.0, 2.0], dtype=np.float16),
        [0.0, 1.0, 2.0],
        range(3),
        torch.arange(3.0, dtype=torch.float64),
        torch.arange(3.0, requires_grad=True),
    ],
)
def test_whatever_holds_numbers_comes_in_the_number_type_of_the_training(value):
    tensor, _ = only(value)
    assert tensor.dtype == torch.float32 and not tensor.requires_grad
    assert tensor.tolist() == [0.0, 1.0, 2.0]


def test_double_precision_stays_where_the_training_had_it():
    tensor, _ = only(1 / 3, trained_on(torch.zeros(8, dtype=torch.float64)))
    assert tensor.item() == 1 / 3


@pytest.mark.parametrize("value", [2, 2.0, np.float64(2.0), np.array(2), torch.tensor(2)])
def test_a_number_is_one_observation(value):
    tensor, is_single = only(value)
    assert is_single and tensor.tolist() == [2.0]


def test_an_array_is_neither_changed_nor_shared():
    array = np.zeros(3)
    array.setflags(write=False)
    tensor, _ = only(array, trained_on(torch.zeros(8, dtype=torch.float64)))
    tensor += 1
    assert array.tolist() == [0.0, 0.0, 0.0]


def test_several_arrays_keep_their_places_and_names():
    x, c = torch.arange(3.0), torch.ones(3, 2)
    in_order, is_single = trained_on(torch.zeros(8), torch.zeros(8, 2)).rows((x, c))
    assert not is_single and isinstance(in_order, tuple)
    assert torch.equal(in_order[0], x) and torch.equal(in_order[1], c)
    by_name, is_single = trained_on(x=torch.zeros(8), c=torch.zeros(8, 2)).rows({"c": c[0], "x": x[0]})
    assert is_single and set(by_name) == {"x", "c"}
    assert by_name["x"].shape == (1,) and by_name["c"].shape == (1, 2)


def test_a_list_of_arrays_is_several_and_a_list_of_numbers_is_one():
    in_order, _ = trained_on(torch.zeros(8), torch.zeros(8, 2)).rows([torch.zeros(3), np.ones((3, 2))])
    assert [tuple(rows.shape) for rows in in_order] == [(3,), (3, 2)]
    one, is_single = only([1.0, 2.0], trained_on(torch.zeros(8, 2)))
    assert is_single and one.tolist() == [[1.0, 2.0]]


def test_values_without_names_take_those_in_order():
    observations = trained_on(c=torch.zeros(8, 2), x=torch.zeros(8), order=("x", "c"))
    by_name, _ = observations.rows((torch.arange(3.0), torch.ones(3, 2)))
    assert by_name["x"].tolist() == [0.0, 1.0, 2.0] and by_name["c"].shape == (3, 2)
    by_name, _ = observations.rows(torch.arange(3.0))  # whoever takes it says that "c" is missing
    assert set(by_name) == {"x"}


def test_names_that_were_not_trained_on_are_left_out():
    by_name, _ = trained_on(x=torch.zeros(8)).rows({"x": 1.0, "z": "anything"})
    assert set(by_name) == {"x"}


def test_whole_numbers_stay_whole():
    observations = trained_on(torch.zeros(8, dtype=torch.int64))
    tensor, _ = only(np.array([1.0, 2.0]), observations)
    assert tensor.dtype == torch.int64 and tensor.tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"observations\[0\] holds fractions, but in training .*\(torch.int64\)"):
        only(1.5, observations)


REFUSED = [
    (torch.zeros(3, 2), ValueError, r"observations\[0\] has shape \(3, 2\), .* had shape \(\).*shape \(num_rows,\)"),
    (torch.zeros(0), ValueError, "the observations is empty"),
    (torch.tensor([0.0, NAN]), ValueError, r"observations\[0\] holds NaN or infinity, first in row 1"),
    ("abc", TypeError, r"observations\[0\] must be a tensor, an array or a number, but is 'abc' \(str\)"),
    (None, TypeError, "must be a tensor, an array or a number, but is None"),
    (np.array(["a"]), TypeError, "must be a tensor, an array or a number"),
    (np.array([1j]), TypeError, "must be a tensor, an array or a number"),
    ((torch.zeros(3), torch.zeros(3)), ValueError, "the observations are 2 in order, but the guide was trained on 1"),
    ((), ValueError, "the observations are 0 in order, but the guide was trained on 1"),
    ({"x": torch.zeros(3)}, ValueError, "the observations are 'x' by name, but the guide was trained on 1 in a tuple"),
]


@pytest.mark.parametrize(("value", "error", "message"), REFUSED)
def test_what_is_refused(value, error, message):
    with pytest.raises(error, match=message):
        only(value)


def test_a_wrong_event_shape_is_told_with_the_right_one():
    message = r"x_obs\[0\] has shape \(3, 5\), but in training each had shape \(5, 2\).*shape \(num_rows, 5, 2\)"
    with pytest.raises(ValueError, match=message):
        trained_on(torch.zeros(8, 5, 2)).rows(torch.zeros(3, 5), "x_obs")


NAMED_REFUSED = [
    ({"y": torch.zeros(3)}, "the observations are 'y' by name, but the guide was trained on 'x', 'c'. Pass these"),
    ({}, "the observations are none by name, but the guide was trained on 'x', 'c'"),
    (torch.zeros(3), "the observations are 1 in order, but the guide was trained on 'x', 'c'. Pass these by name"),
    ({"x": torch.zeros(3), "c": torch.zeros(2)}, r"observations\['c'\] is a single one, but .*\['x'\] has rows"),
    ({"x": torch.zeros(3), "c": torch.zeros(4, 2)}, "arrays of the observations differ in length: 3, 4 rows"),
]


@pytest.mark.parametrize(("value", "message"), NAMED_REFUSED)
def test_what_is_refused_by_name(value, message):
    with pytest.raises(ValueError, match=message):
        trained_on(x=torch.zeros(8), c=torch.zeros(8, 2)).rows(value)
