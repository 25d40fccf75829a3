import itertools
import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_gan.players.batch import as_batch, number_of_rows
from pyro_gan.training.minibatches import minibatches

CPU = torch.device("cpu")


class Squares(Dataset):
    """A map-style data set of numbers and their squares."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor(float(index)), index**2


class NamedSquares(Squares):
    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": float(index), "y": index**2}


class Count(IterableDataset):
    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(self.num_rows))


class Column:
    """What NumPy can read, as a column of a data frame."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype) if copy else np.asarray(self.array, dtype=dtype)


def take(number: int, data: Any, batch_size: int = 4, transform: Any = None) -> list[Any]:
    return list(itertools.islice(minibatches(data, batch_size, CPU, transform), number))


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "data",
    [
        torch.arange(10.0),
        np.arange(10, dtype=np.float32),
        np.arange(10, dtype=np.float64),
        read_only(np.arange(10)),
        np.arange(20)[::2] // 2,
        Column(np.arange(10)),
        (torch.arange(10.0),),
        {"x": np.arange(10)},
        TensorDataset(torch.arange(10.0)),
    ],
    ids=["tensor", "float32", "float64", "read-only", "strided", "__array__", "tuple", "mapping", "TensorDataset"],
)
def test_arrays_of_every_kind_are_visited_once_an_epoch(data):
    batches = take(4, data, batch_size=5)
    rows = torch.stack([batch["x"] if isinstance(batch, dict) else batch[0] for batch in batches])
    assert rows.shape == (4, 5)
    for epoch in rows.reshape(2, 10):
        assert epoch.sort().values.tolist() == list(range(10))


@pytest.mark.parametrize(
    "num_rows, batch_size", [(10, 5), (10, 4), (10, 9), (10, 1), (7, 3), (7, 6), (2, 1), (64, 48), (10, np.int64(3))]
)
def test_every_minibatch_is_full_and_every_row_comes_once_an_epoch(num_rows, batch_size):
    pyro.set_rng_seed(1)
    batches = take(2 * num_rows, torch.arange(num_rows), batch_size)  # that is 2 * batch_size epochs
    assert {len(rows) for (rows,) in batches} == {batch_size}
    epochs = torch.cat([rows for (rows,) in batches]).reshape(2 * batch_size, num_rows)
    assert torch.equal(epochs.sort(1).values, torch.arange(num_rows).expand_as(epochs))


def test_every_epoch_has_an_order_of_its_own():
    pyro.set_rng_seed(1)
    epochs = torch.cat([rows for (rows,) in take(20, torch.arange(50), 10)]).reshape(4, 50)
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    assert tuple(range(50)) not in {tuple(epoch) for epoch in epochs.tolist()}


@pytest.mark.parametrize("batch_size", [10, 11, 1000])
def test_minibatches_as_large_as_the_data_are_all_the_rows(batch_size):
    data = torch.arange(10.0)
    for (rows,) in take(3, data, batch_size):
        assert torch.equal(rows, data)


@pytest.mark.parametrize("kind", ["tensor", "array", "read-only array", "tuple", "mapping"])
def test_arrays_are_not_copied(kind):
    array = np.arange(10.0)
    tensor = torch.from_numpy(array)
    data: Any = {
        "tensor": tensor,
        "array": array,
        "read-only array": read_only(array[:]),
        "tuple": (array,),
        "mapping": {0: tensor},
    }[kind]
    stream = minibatches(data, 10, torch.device("cpu"))
    assert stream.stream.arrays[0].data_ptr() == tensor.data_ptr()
    assert next(stream)[0].data_ptr() != tensor.data_ptr()  # but what a network may write to is its own


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("batch_size", [3, 6])
def test_arrays_keep_their_dtype(dtype, batch_size):
    (batch,) = take(1, np.ones((6, 2), dtype), batch_size)
    assert batch[0].dtype == getattr(torch, dtype)
    assert batch[0].shape == (batch_size, 2)


def test_rows_of_a_tuple_stay_aligned():
    x = torch.arange(7)
    for rows, others in take(10, (x, torch.stack([x**2, -x], 1).numpy()), 3):
        assert torch.equal(others, torch.stack([rows**2, -rows], 1))


@pytest.mark.parametrize("mapping", [dict, MappingProxyType])
def test_rows_of_a_mapping_stay_aligned_and_keep_their_names(mapping):
    x = torch.arange(7)
    for batch in take(10, mapping({"x": x, "label": 10 * x.numpy()}), 3):
        assert list(batch) == ["x", "label"]
        assert torch.equal(batch["label"], 10 * batch["x"])


def test_rows_of_a_tensor_data_set_stay_aligned():
    x = torch.arange(7)
    for rows, others in take(10, TensorDataset(x, x**2), 3):
        assert torch.equal(others, rows**2)


def test_the_same_seed_gives_the_same_stream():
    def stream(seed: int) -> list[list[int]]:
        pyro.set_rng_seed(seed)
        return [rows.tolist() for (rows,) in take(8, torch.arange(20), 6)]

    assert stream(5) == stream(5)
    assert stream(5) != stream(6)


def test_the_same_seed_gives_the_same_stream_of_a_data_set():
    def stream(seed: int) -> list[list[float]]:
        pyro.set_rng_seed(seed)
        return [rows.tolist() for rows, _ in take(8, Squares(20), 6)]

    assert stream(5) == stream(5)
    assert stream(5) != stream(6)


def test_minibatches_do_not_hang_on_to_a_graph():
    data = torch.ones(4, requires_grad=True)
    (rows,) = next(minibatches(data * 2, 2, CPU))
    assert not rows.requires_grad


def test_map_style_data_set_gives_full_minibatches_of_rows_that_are_all_different():
    pyro.set_rng_seed(2)
    batches = take(6, Squares(11), 4)  # three epochs of two full minibatches each
    for rows, squares in batches:
        assert len(rows) == 4
        assert torch.equal(squares, rows.long() ** 2)
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        assert len({*first[0].tolist(), *second[0].tolist()}) == 8


def test_map_style_data_set_with_names_gives_mappings():
    for batch in take(4, NamedSquares(6), 3):
        assert torch.equal(batch["y"], batch["x"].long() ** 2)


@pytest.mark.parametrize("num_rows", [3, 4])
def test_map_style_data_set_as_small_as_a_minibatch_gives_all_its_rows(num_rows):
    for rows, _ in take(3, Squares(num_rows), 4):
        assert sorted(rows.tolist()) == list(range(num_rows))


def test_iterable_data_set_is_read_in_its_order_over_and_over():
    assert [rows.tolist() for (rows,) in take(5, Count(5), 2)] == [[0, 1], [2, 3], [4], [0, 1], [2, 3]]


def test_loader_gives_its_minibatches_as_they_are_over_and_over():
    loader = DataLoader(Squares(5), batch_size=3)
    assert [rows.tolist() for rows, _ in take(3, loader, batch_size=1)] == [[0, 1, 2], [3, 4], [0, 1, 2]]


def test_shuffling_loader_gives_every_row_once_an_epoch():
    pyro.set_rng_seed(4)
    batches = take(6, DataLoader(Squares(9), batch_size=3, shuffle=True))
    epochs = torch.cat([rows for rows, _ in batches]).reshape(2, 9)
    assert torch.equal(epochs.sort(1).values, torch.arange(9.0).expand(2, 9))
    assert not torch.equal(epochs[0], epochs[1])


def test_list_of_minibatches_is_read_over_and_over():
    batches = [np.array([1, 2]), (torch.tensor([3]), [4])[:1], [torch.tensor([5]), np.array([6])], {"x": np.ones(1)}]
    first, second, third, fourth, again = take(5, batches)
    assert first[0].tolist() == again[0].tolist() == [1, 2]
    assert [element.tolist() for element in second] == [[3]]
    assert [element.tolist() for element in third] == [[5], [6]]
    assert fourth["x"].tolist() == [1.0]


def test_one_shot_generator_ends_the_stream_with_it():
    stream = minibatches((torch.full((2,), number) for number in range(2)), 1, CPU)
    assert next(stream)[0].tolist() == [0, 0]
    assert next(stream)[0].tolist() == [1, 1]
    with pytest.raises(StopIteration):
        next(stream)


def test_one_shot_generator_ends_the_stream_also_behind_a_transform():
    stream = minibatches(iter([torch.zeros(2)]), 1, CPU, lambda x: x + 1)
    assert next(stream)[0].tolist() == [1.0, 1.0]
    with pytest.raises(StopIteration):
        next(stream)


def test_endless_generator_is_read_only_as_far_as_asked():
    read = []

    def numbers() -> Iterator[Tensor]:
        for number in itertools.count():
            read.append(number)
            yield torch.tensor([number])

    assert [rows.item() for (rows,) in take(5, numbers())] == [0, 1, 2, 3, 4]
    assert read == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "data",
    [np.arange(4), (torch.arange(4), np.arange(4)), {"x": torch.arange(4)}, Squares(4), [torch.zeros(2)], Count(3)],
    ids=["array", "tuple", "mapping", "Dataset", "list", "IterableDataset"],
)
@pytest.mark.parametrize("transform", [None, lambda *batch: np.zeros(2)], ids=["as it is", "transformed"])
def test_minibatches_lie_on_the_device(data, transform):
    meta = torch.device("meta")
    batch = next(minibatches(data, 2, meta, transform))
    assert {array.device for array in (batch.values() if isinstance(batch, dict) else batch)} == {meta}


def test_transform_of_one_element_scales_bytes():
    images = np.full((4, 2), 51, np.uint8)
    (batch,) = take(1, images, 2, lambda x: x / 255)
    assert batch[0].dtype == torch.float32
    torch.testing.assert_close(batch[0], torch.full((2, 2), 0.2))


def test_transform_of_a_tuple_takes_its_elements_and_may_return_as_many_as_it_likes():
    x = torch.arange(6)
    for batch in take(4, (x, x**2), 2, lambda rows, squares: (squares, rows, squares - rows)):
        squares, rows, differences = batch
        assert torch.equal(squares, rows**2)
        assert torch.equal(differences, squares - rows)


def test_transform_of_a_mapping_takes_and_returns_a_mapping():
    x = torch.arange(6)
    for batch in take(4, {"x": x, "y": 2 * x}, 2, lambda batch: {"x": batch["x"], "sum": batch["x"] + batch["y"]}):
        assert torch.equal(batch["sum"], 3 * batch["x"])
        assert set(batch) == {"x", "sum"}


def test_transform_may_name_an_element_or_leave_the_names():
    x = torch.arange(3)
    assert take(1, x, 3, lambda rows: {"x": rows})[0]["x"].sort().values.tolist() == [0, 1, 2]
    assert take(1, {"x": x}, 3, lambda batch: batch["x"])[0][0].sort().values.tolist() == [0, 1, 2]
    assert len(take(1, x, 3, lambda rows: [rows, rows])[0]) == 2


def test_transform_gets_every_minibatch_of_a_loader():
    batches = take(3, DataLoader(Squares(4), batch_size=2), transform=lambda rows, squares: rows + squares)
    assert [rows.tolist() for (rows,) in batches] == [[0.0, 2.0], [6.0, 12.0], [0.0, 2.0]]


@pytest.mark.parametrize(
    "data",
    [torch.zeros(0, 2), np.zeros(0), (), {}, (torch.zeros(0), torch.zeros(0)), {"x": np.zeros((0, 3))}, Squares(0)],
    ids=["tensor", "array", "no elements", "no names", "tuple", "mapping", "Dataset"],
)
def test_empty_data_are_refused_at_once(data):
    with pytest.raises(ValueError, match="data is empty: expected at least one row"):
        minibatches(data, 2, CPU)


@pytest.mark.parametrize("data", [[], Count(0), DataLoader(Squares(1), 2, drop_last=True)], ids=["[]", "IDS", "loader"])
def test_iterables_that_give_no_minibatch_are_refused(data):
    with pytest.raises(ValueError, match="data is empty: the iterable gives no minibatch"):
        take(1, data)


@pytest.mark.parametrize(
    "data", [(np.zeros(3), torch.zeros(2), np.zeros(3)), {"x": np.zeros(3), "y": np.zeros(2), "z": np.zeros(3)}]
)
def test_arrays_of_different_lengths_are_refused(data):
    with pytest.raises(ValueError, match=r"the arrays of data differ in length: 3, 2, 3 rows\. Pass arrays that have"):
        minibatches(data, 2, CPU)


def test_elements_of_a_given_minibatch_that_differ_in_length_are_refused():
    with pytest.raises(ValueError, match="differ in length: 3, 1 rows"):
        take(1, [(torch.zeros(3), torch.zeros(1))])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_infinity_are_refused_with_the_row(bad, dtype):
    rows = np.zeros((5, 3), dtype)
    rows[2, 1] = rows[4, 0] = bad
    with pytest.raises(ValueError, match=r"data holds NaN or infinity, first in row 2\. Remove such rows or fill"):
        minibatches(rows, 2, CPU)


@pytest.mark.parametrize("name, keys", [("1", range(2)), ("'y'", ["x", "y"])], ids=["tuple", "mapping"])
def test_nan_in_one_of_several_arrays_is_refused_with_its_name(name, keys):
    arrays = [torch.zeros(2), torch.tensor([float("nan"), 0.0])]
    data = tuple(arrays) if isinstance(keys, range) else dict(zip(keys, arrays, strict=True))
    with pytest.raises(ValueError, match=rf"data\[{name}\] holds NaN or infinity, first in row 0"):
        minibatches(data, 2, CPU)


@pytest.mark.parametrize("data", [3, "abc", b"abc", None, 2.5, len])
def test_data_of_another_type_are_refused(data):
    text = f"but is {data!r} ({type(data).__name__})"
    with pytest.raises(TypeError, match=rf"data must be a tensor, an array, .*{re.escape(text)}"):
        minibatches(data, 2, CPU)


def test_tuple_element_that_is_no_array_is_refused():
    with pytest.raises(TypeError, match=r"data\[1\] must be a tensor or an array, but is 'a' \(str\)"):
        minibatches((torch.zeros(2), "a"), 2, CPU)


def test_mapping_element_that_is_no_array_is_refused():
    message = r"data\['label'\] must be a tensor or an array, but is \[1, 2\] \(list\)\. Make it one"
    with pytest.raises(TypeError, match=message):
        minibatches({"x": torch.zeros(2), "label": [1, 2]}, 2, CPU)


def test_element_of_a_given_minibatch_that_is_no_array_is_refused():
    message = r"the minibatch\[0\] must be a tensor or an array, but is 1\.5 \(float\)\. Make it one, .*rows\)"
    with pytest.raises(TypeError, match=message):
        take(1, [[1.5, 2.5]])


@pytest.mark.parametrize(
    "array, dtype",
    [
        (np.array([1, "a"], dtype=object), "object"),
        (np.array(["a", "b"]), "<U1"),
        (np.array([b"a", b"b"]), r"\|S1"),
        (np.array(["2024-01-01"], dtype="datetime64[D]"), r"datetime64\[D\]"),
        (np.array([1], dtype="timedelta64[s]"), r"timedelta64\[s\]"),
        (Column(np.array([None, 1.0])), "object"),
    ],
)
def test_arrays_that_hold_no_numbers_are_refused(array, dtype):
    with pytest.raises(TypeError, match=rf"must hold numbers, but its dtype is {dtype}\. Convert it to numbers first"):
        minibatches(array, 2, CPU)
    with pytest.raises(TypeError, match=rf"data\['x'\] must hold numbers, but its dtype is {dtype}"):
        minibatches({"x": array}, 2, CPU)


@pytest.mark.parametrize("transform", [3, "scale", (lambda x: x,)])
def test_transform_that_is_not_callable_is_refused(transform):
    with pytest.raises(TypeError, match="transform must be a callable on a minibatch, but is"):
        minibatches(torch.zeros(3), 2, CPU, transform)


@pytest.mark.parametrize("result", [None, 3.0, "x"])
def test_transform_that_returns_no_array_is_refused(result):
    with pytest.raises(TypeError, match=rf"must be a tensor or an array, but is {result!r}"):
        take(1, torch.zeros(3), transform=lambda x: result)


@pytest.mark.parametrize("batch_size", [0, -1, True, False])
def test_batch_size_that_is_not_positive_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be a positive integer, but is {batch_size}"):
        minibatches(torch.zeros(3), batch_size, CPU)


@pytest.mark.parametrize("batch_size", [2.5, 2.0, "3", None])
def test_batch_size_that_is_no_integer_is_refused(batch_size):
    text = re.escape(f"but is {batch_size!r} ({type(batch_size).__name__})")
    with pytest.raises(TypeError, match=f"batch_size must be a positive integer, {text}"):
        minibatches(torch.zeros(3), batch_size, CPU)


FAILED = torch.arange(20.0)
FAILED[[3, 7]] = torch.tensor([float("nan"), float("inf")])
IMAGES = torch.ones(20, 2, 2)
IMAGES[11, 0, 1] = float("-inf")


@pytest.mark.parametrize(
    ("data", "left_out"),
    [
        (FAILED, [3, 7]),
        (FAILED.numpy(), [3, 7]),
        ((torch.arange(20), FAILED, IMAGES), [3, 7, 11]),
        ({"z": torch.arange(20), "x": IMAGES, "y": FAILED.double()}, [3, 7, 11]),
        (TensorDataset(FAILED), [3, 7]),
    ],
    ids=["tensor", "array", "tuple", "mapping", "TensorDataset"],
)
def test_rows_that_are_not_finite_can_be_left_out(data, left_out):
    with pytest.warns(
        RuntimeWarning, match=f"^left out {len(left_out)} of 20 rows of data that hold NaN or infinity. What is"
    ) as told:
        stream = minibatches(data, 5, CPU, invalid="exclude")
    assert len(told) == 1
    rows = [next(iter(batch.values() if isinstance(batch, dict) else batch)) for batch in itertools.islice(stream, 40)]
    assert set(torch.cat(rows).tolist()) == set(range(20)) - set(left_out)
    assert FAILED.isnan().any()  # the users' own rows are as they were


def test_nothing_is_told_or_copied_where_all_rows_are_finite():
    data = torch.full((6,), 3e38)  # of which the sum is infinite
    assert minibatches(data, 2, CPU, invalid="exclude").stream.arrays[0].data_ptr() == data.data_ptr()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (FAILED / 0, {}, "all 20 rows of data hold NaN or infinity, so that invalid='exclude' leaves none. Check"),
        (FAILED, {"batch_size": 19}, r"2 of 20 rows .* leaves 18, fewer than a minibatch of 19. Pass batch_size=18"),
        (DataLoader(TensorDataset(FAILED), 4), {}, "which takes arrays, but data is a DataLoader. Pass a tensor"),
        (Squares(4), {}, "data is a Squares. Pass a tensor or an array, a tuple or a mapping"),
        ([FAILED], {}, "data is a list. Pass a tensor"),
        (FAILED, {"invalid": "drop"}, "invalid must be 'raise' or 'exclude', but is 'drop'"),
        (FAILED, {"invalid": "raise"}, r"first in row 3. Remove.* or leave out .* with run\(..., invalid='exclude'\)"),
    ],
)  # fmt: skip
def test_rows_that_can_not_be_left_out_are_told(data, options, message):
    with pytest.raises(ValueError, match=message):
        minibatches(data, **{"batch_size": 4, "device": CPU, "invalid": "exclude", **options})


def test_all_rows_that_are_left_are_a_minibatch_where_all_rows_were():
    with pytest.warns(RuntimeWarning, match="left out 2 of 20 rows"):
        stream = minibatches(FAILED, 100, CPU, invalid="exclude")
    assert len(next(stream)[0]) == 18


@pytest.mark.parametrize("value", [np.arange(3), (np.arange(3),), [np.arange(3)], torch.arange(3)])
def test_as_batch_makes_a_tuple_of_tensors(value):
    batch = as_batch(value, CPU)
    assert isinstance(batch, tuple)
    assert [element.tolist() for element in batch] == [[0, 1, 2]]


def test_as_batch_keeps_names():
    batch = as_batch(MappingProxyType({"b": np.zeros((2, 3)), "a": torch.ones(2)}), CPU)
    assert {name: tuple(array.shape) for name, array in batch.items()} == {"b": (2, 3), "a": (2,)}


def test_number_of_rows_is_the_length_of_every_element():
    assert number_of_rows((torch.zeros(3, 5), torch.zeros(3))) == 3
    assert number_of_rows({"x": torch.zeros(4, 2)}) == 4


def test_a_single_number_is_no_data():
    with pytest.raises(ValueError, match=r"data\[1\] has no rows: it is a single number"):
        minibatches((torch.zeros(3), torch.tensor(1.0)), 2, CPU)


def test_a_transform_that_returns_no_array_is_named():
    with pytest.raises(TypeError, match="what transform returned must be a tensor or an array, but is None"):
        next(minibatches(torch.zeros(3), 2, CPU, transform=lambda x: None))


def test_arrays_in_any_memory_order_are_read():
    rows = np.arange(6.0).reshape(3, 2)
    for array in (rows[::-1], rows[:, ::-1], rows.astype(">f8"), np.asfortranarray(rows), rows.astype(np.uint16)):
        assert np.array_equal(next(minibatches(array, 3, CPU))[0].numpy(), array)
        assert len(next(minibatches(array, 2, CPU))[0]) == 2


def test_a_dataset_that_makes_its_own_rows_is_asked_for_them():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return (2 * self.tensors[0][index],)

    batch = next(minibatches(Doubled(torch.ones(4)), 4, CPU))
    assert torch.equal(batch[0], torch.full((4,), 2.0))


def test_a_source_that_gives_nothing_the_second_time_runs_out():
    class Once:
        def __init__(self):
            self.iterator = iter([torch.zeros(2)])

        def __iter__(self):
            return self.iterator

    stream = minibatches(Once(), 2, CPU)
    next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_transform_that_writes_in_place_leaves_the_data_alone():
    data = torch.ones(4)
    stream = minibatches(data, 10, CPU, transform=lambda x: x.mul_(2))
    assert next(stream)[0].tolist() == next(stream)[0].tolist() == [2.0] * 4
    assert data.tolist() == [1.0] * 4
