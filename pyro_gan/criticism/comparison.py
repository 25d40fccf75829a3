"""Several fitted models beside each other, by several measures."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_gan.checks import positive_integer
from pyro_gan.criticism.coverage import density_coverage, precision_recall
from pyro_gan.criticism.parzen import ParzenEstimate, parzen_log_likelihood, select_bandwidth
from pyro_gan.criticism.rows import matching_rows
from pyro_gan.criticism.two_sample import energy_test, sliced_wasserstein

if TYPE_CHECKING:
    from pandas import DataFrame

Measure = Callable[[Any, Any], Any]
"""A function of samples and test rows that returns a number, or a named tuple of numbers."""


def parzen(samples: Any, test: Any) -> ParzenEstimate:
    """The Parzen log-likelihood of four fifths of the test rows, the window's width chosen on the others.

    Args:
        samples: The model's samples, with shape `(num_samples, *event_shape)`.
        test: Held-out rows in random order, with shape `(num_rows, *event_shape)`, at least two and better many.

    Returns:
        The mean and its standard error, in nats.

    Raises:
        TypeError: Rows are no numbers.
        ValueError: As in :func:`~pyro_gan.criticism.parzen_log_likelihood`, or there is one test row alone.
    """
    samples, test = matching_rows(samples, test, names=("samples", "test rows"))
    if len(test) < 2:
        raise ValueError("expected at least 2 test rows, one to choose the window by, but there is 1. Add more.")
    validation, rest = test[::5], torch.cat([test[start::5] for start in range(1, 5)])
    return parzen_log_likelihood(samples, rest, select_bandwidth(samples, validation))


def compare(
    models: Mapping[str, Any], test: Any, *, num_samples: int = 1000, measures: Mapping[str, Measure] | None = None
) -> "DataFrame":
    """Measure several models, or sets of samples, against the same held-out rows.

    Args:
        models: By name, samples with shape `(num_samples, *event_shape)`, or a function from a number of samples to
            such, as `inference.sample` is, or one that draws from a model that SVI trained.
        test: Held-out rows, with shape `(num_rows, *event_shape)`.
        num_samples: The number of samples drawn from each function.
        measures: Functions of samples and test rows by name; by default the Parzen log-likelihood, the energy test,
            the sliced Wasserstein distance, precision and recall, density and coverage.

    Returns:
        A `pandas.DataFrame` with a line a model and a column a number; `name_field` for a named tuple's.

    Raises:
        TypeError: `models` is no mapping, or is empty; or as the measures do, with the model's name before the message.
        ValueError: As the measures do, with the model's name before the message. The Parzen windows of the default
            measures, which are at most 1 wide, refuse rows that lie 1e154 or more from all samples.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> exact, shifted = torch.randn(200, 2), torch.randn(200, 2) + 3
        >>> table = compare({"exact": exact, "shifted": shifted}, torch.randn(200, 2))
        >>> table["energy_pvalue"].round(2).to_dict()["shifted"]
        0.01
    """
    if not isinstance(models, Mapping) or not models:
        raise TypeError(f"models must be a mapping from names to samples, but is {models!r}.")
    from pandas import DataFrame

    num_samples = positive_integer("num_samples", num_samples)
    return DataFrame.from_dict(
        {name: _row(name, model, test, num_samples, measures) for name, model in models.items()},
        orient="index",
    )


def _row(
    name: str, model: Any, test: Any, num_samples: int, measures: Mapping[str, Measure] | None
) -> dict[str, float]:
    samples = model(num_samples) if callable(model) and not isinstance(model, Tensor) else model
    try:
        return _default_measures(samples, test) if measures is None else _own_measures(samples, test, measures)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def _default_measures(samples: Any, test: Any) -> dict[str, float]:
    return {
        **_numbers("parzen", parzen(samples, test)),
        **_numbers("energy", energy_test(samples, test, num_permutations=99)),
        "sliced_wasserstein": sliced_wasserstein(samples, test),
        **precision_recall(test, samples)._asdict(),
        **density_coverage(test, samples)._asdict(),
    }


def _own_measures(samples: Any, test: Any, measures: Mapping[str, Measure]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, measure in measures.items():
        row.update(_numbers(name, measure(samples, test)))
    return row


def _numbers(name: str, result: Any) -> dict[str, float]:
    """A measure's result by column: the measure's name, with the field's where there are several."""
    if hasattr(result, "_asdict"):
        return {f"{name}_{field}": float(value) for field, value in result._asdict().items()}
    return {name: float(result)}
