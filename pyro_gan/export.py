r"""Export to ArviZ: what a fitted model draws and what was observed, under the names that ArviZ's functions look for.

A model with estimated parameters :math:`\hat\theta` draws latent values and data,

.. math:: z \sim p(z; \hat\theta), \qquad x \sim p(x \mid z; \hat\theta).

====================== ============================================================== ====================
group                  holds                                                          dimensions
====================== ============================================================== ====================
`posterior`            latent values given the data, as a guide draws them            `chain`, `draw`, ...
`posterior_predictive` the compared sites as the fitted model draws them              `chain`, `draw`, ...
`prior`                latent values as the model draws them, such as a GAN's noise   `chain`, `draw`, ...
`prior_predictive`     the compared sites as a model that was not fitted draws them   `chain`, `draw`, ...
`observed_data`        the data at the compared sites                                 the plates, ...
`constant_data`        other data that the model takes, such as labels                the plates, ...
`training_history`     losses and probabilities                                       `chain`, `step`
====================== ============================================================== ====================

The noise of a GAN is in `prior`, because nothing conditions it on the data; its draws of x are in
`posterior_predictive`, because the data went into :math:`\hat\theta`, at which the parameters' posterior is taken to be
one point. So `arviz.plot_ppc(exported)` works as it stands. A draw is a whole replicated data set, with as many rows as
the model's plate has: `plot_ppc` draws one density a draw. The history is no `sample_stats`, which has a value a draw.
A fit is a chain; `concat(first, second, dim="chain")` of ArviZ 0.x puts several beside each other.

What the export can not tell: its draws are independent, and there is one chain. An effective sample size near the
number of draws, and an R-hat that is missing, say nothing about whether the training has converged. Over several fits,
R-hat tells whether they agree, not whether they are right.

References:
    Kumar, Carroll, Hartikainen and Martin (2019), "ArviZ a unified library for exploratory analysis of Bayesian models
    in Python", and ArviZ's InferenceData schema; Gabry, Simpson, Vehtari, Betancourt and Gelman (2019), "Visualization
    in Bayesian workflow", section 5, for posterior predictive checks.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import listed, shown

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import Dataset, DataTree

Groups = dict[str, dict[str, np.ndarray]]
Dimensions = Mapping[str, Sequence[str | None]]

DRAWN_GROUPS = ("posterior", "posterior_predictive", "prior", "prior_predictive")
HISTORY = "training_history"
RESERVED = ("chain", "draw", "step")
LEADING_DIMENSIONS = {**dict.fromkeys(DRAWN_GROUPS, ("chain", "draw")), HISTORY: ("chain", "step")}
"""The dimensions that all values of a group have in front, by group."""


def to_inference_data(
    *,
    posterior: Mapping[str, Any] | None = None,
    posterior_predictive: Mapping[str, Any] | None = None,
    prior: Mapping[str, Any] | None = None,
    prior_predictive: Mapping[str, Any] | None = None,
    observed_data: Mapping[str, Any] | None = None,
    constant_data: Mapping[str, Any] | None = None,
    history: Mapping[str, Any] | None = None,
    dims: Dimensions | None = None,
    coords: Mapping[str, Any] | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> "InferenceData | DataTree":
    """Make ArviZ's container of draws, data and a training history.

    The groups are described at the top of :mod:`pyro_gan.export`. A slash in a site's or a plate's name becomes a dot,
    because netCDF keeps slashes for groups. bfloat16 becomes float32.

    Args:
        posterior: Draws by site, each with shape `(num_draws, *shape)`: tensors or arrays of numbers.
        posterior_predictive: Likewise; for `plot_ppc` each draw of a site has the shape of its observed data.
        prior: Likewise.
        prior_predictive: Likewise.
        observed_data: Values by site, each with shape `(num_rows, *event_shape)`.
        constant_data: Values by name, each with shape `(num_rows, *event_shape)`.
        history: Numbers by name, one an entry of `step`, as in `inference.history`; an empty one adds no group.
        dims: The names of a site's leading axes, those of the draws aside, such as `{"x": ["data"]}`; `None` for an
            axis without one. Other axes are named after the site, `x_dim_0` and so on.
        coords: What stands along a dimension, such as `{"data": row_names}`; by default 0, 1, 2 and so on.
        seed: The seed of the random numbers.
        settings: What else to keep; written as the attribute `settings` in JSON, with other objects as strings.

    Returns:
        An `arviz.InferenceData` under ArviZ 0.x, an `xarray.DataTree` under ArviZ 1.x or `arviz_base`. Both write
        netCDF with `to_netcdf(path)`. The attributes have the versions of pyro_gan, Pyro, torch, NumPy and ArviZ.

    Raises:
        ImportError: ArviZ is not installed.
        TypeError: Values are no numbers, or names no strings.
        ValueError: There is nothing to export; values are NaN, infinite or missing; draws differ in number among the
            sites of a group; `dims` or `coords` do not fit the values.

    Example:
        >>> exported = to_inference_data(
        ...     prior={"eps": torch.zeros(100, 20, 3)},
        ...     posterior_predictive={"x": torch.zeros(100, 20)},
        ...     observed_data={"x": torch.ones(20)},
        ...     dims={"eps": ["data"], "x": ["data"]},
        ... )
        >>> exported["prior"]["eps"].dims
        ('chain', 'draw', 'data', 'eps_dim_0')
        >>> dict(exported["observed_data"].sizes)
        {'data': 20}
    """
    arviz = _arviz()
    given = {
        "posterior": posterior,
        "posterior_predictive": posterior_predictive,
        "prior": prior,
        "prior_predictive": prior_predictive,
        "observed_data": observed_data,
        "constant_data": constant_data,
        HISTORY: history if history is None or len(_steps(history)) else None,
    }
    groups = {group: _arrays(group, values) for group, values in given.items() if values is not None}
    if not groups:
        raise ValueError("there is nothing to export. Pass draws, data or a history that is not empty.")
    _check_replicated(groups)
    places = {_netcdf_name(name): np.asarray(values) for name, values in (coords or {}).items()}
    if HISTORY in groups:
        places["step"] = groups[HISTORY].pop("step")[0]
    dimensions = _dimensions(groups, dims or {})
    _check(groups, dimensions, places)
    datasets = {group: _dataset(arviz, group, values, dimensions[group], places) for group, values in groups.items()}
    return _container(arviz, datasets, _attributes(arviz, seed, settings))


def plate_names(message: Mapping[str, Any]) -> list[str | None]:
    """The names of the plates along a site's leading axes, for `dims`.

    Args:
        message: The site, as in `trace.nodes["x"]` of a Pyro trace.

    Returns:
        A name for each axis of the site's batch shape, or `None` where no plate is. `pyro.deterministic` counts all
        axes as the event's where it was given no `event_dim`; those that have a plate's length there are the plate's.

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> def model():
        ...     with pyro.plate("data", 5):
        ...         return pyro.sample("z", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        >>> plate_names(pyro.poutine.trace(model).get_trace().nodes["z"])
        ['data']
    """
    frames = [frame for frame in message["cond_indep_stack"] if frame.vectorized]
    shape = message["value"].shape
    num_axes = len(message["fn"].batch_shape) or max((-frame.dim for frame in frames), default=0)
    names: list[str | None] = [None] * min(num_axes, len(shape))
    for frame in frames:
        axis = num_axes + frame.dim
        if 0 <= axis < len(names) and shape[axis] == frame.size:
            names[axis] = frame.name
    return names


def _arviz() -> ModuleType:
    """ArviZ, or the part of ArviZ 1.x that holds its containers."""
    for name in ("arviz", "arviz_base"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise ImportError("to_inference_data needs ArviZ, which is not installed. Install it: pip install arviz.")


def _has_inference_data(arviz: ModuleType) -> bool:
    """Whether this is ArviZ 0.x. ArviZ 1.x answers `hasattr(arviz, "InferenceData")` with a warning and `True`."""
    return arviz.__name__ == "arviz" and int(arviz.__version__.partition(".")[0]) < 1


def _dataset(
    arviz: ModuleType,
    group: str,
    values: dict[str, np.ndarray],
    dimensions: dict[str, list[str]],
    coords: dict[str, np.ndarray],
) -> "Dataset":
    """A group in ArviZ's form. All axes have their names already; ArviZ 1.x keeps which of them run over samples."""
    samples: dict[str, list[str]] = (
        {"default_dims": []} if _has_inference_data(arviz) else {"sample_dims": list(LEADING_DIMENSIONS.get(group, ()))}
    )
    attributes = {"inference_library": "pyro_gan", "inference_library_version": version("pyro_gan")}
    return arviz.dict_to_dataset(values, dims=dimensions, coords=coords, attrs=attributes, **samples)


def _container(
    arviz: ModuleType, datasets: dict[str, "Dataset"], attributes: dict[str, Any]
) -> "InferenceData | DataTree":
    if _has_inference_data(arviz):
        return arviz.InferenceData(attrs=attributes, **datasets)
    from xarray import DataTree

    tree = DataTree.from_dict(datasets)
    tree.attrs = attributes
    return tree


def _attributes(arviz: ModuleType, seed: int | None, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "pyro_gan_version": version("pyro_gan"),
        "pyro_version": version("pyro-ppl"),
        "torch_version": str(torch.__version__),
        "numpy_version": np.__version__,
        "arviz_version": arviz.__version__,
    }
    if seed is not None:
        if not isinstance(seed, int | np.integer):
            raise TypeError(f"seed must be an integer, but is {shown(seed)} ({type(seed).__name__}).")
        attributes["seed"] = int(seed)
    if settings is not None:
        attributes["settings"] = json.dumps(dict(settings), default=str)
    return attributes


def _netcdf_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"names of sites, dimensions and coordinates must be strings, but one is {name!r}.")
    return name.replace("/", ".")


def _steps(history: Mapping[str, Any]) -> Any:
    if "step" not in history:
        raise ValueError(f"history has no 'step', but {listed(history)}. Pass inference.history.")
    return history["step"]


def _arrays(group: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A group's values as arrays, checked; draws and the history get their chain."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{group} must be a mapping from names to values, but is {type(values).__name__}.")
    if not values:
        raise ValueError(f"{group} is empty. Leave it out, or pass the values of at least one site.")
    arrays = {_netcdf_name(name): _array(f"{group}[{name!r}]", value) for name, value in values.items()}
    if len(arrays) < len(values):
        raise ValueError(f"two names in {group} differ only in '/' and '.', and a '/' becomes a '.'. Rename one.")
    if group != HISTORY:
        for name, array in arrays.items():
            _check_finite(f"{group}[{name!r}]", array)
    if group in LEADING_DIMENSIONS:
        _check_lengths(group, arrays)
        arrays = {name: array[None] for name, array in arrays.items()}  # the one chain
    return arrays


def _array(place: str, value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value  # NumPy has none
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{place} is no array: {error} Pass rows of equal shapes.") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{place} must hold real numbers, but is of type {array.dtype}. Convert it first.")
    if not array.ndim or not array.size:
        raise ValueError(f"{place} has shape {array.shape}, but expected at least one draw or row.")
    return array


def _check_finite(place: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{place} holds NaN or infinity. Check the model, or leave such draws and rows out.")


def _check_lengths(group: str, arrays: dict[str, np.ndarray]) -> None:
    """Refuse draws, or entries of a history, that differ in number."""
    first, *rest = arrays
    for name in rest:
        if len(arrays[name]) != len(arrays[first]):
            entries = "entries" if group == HISTORY else "draws"
            raise ValueError(
                f"{group} has {len(arrays[first])} {entries} of {shown(first)}, but {len(arrays[name])} of {name!r}. "
                f"Pass equally many {entries} of all."
            )


def _check_replicated(groups: Groups) -> None:
    """Refuse a draw of one row where it should be a whole replicated data set: `plot_ppc` would draw nonsense."""
    for group in ("posterior_predictive", "prior_predictive"):
        for site, draws in groups.get(group, {}).items():
            drawn = draws.shape[2:]
            observed = groups.get("observed_data", {}).get(site, draws[0, 0]).shape
            if len(drawn) != len(observed) or drawn[1:] != observed[1:]:
                raise ValueError(
                    f"each draw of {group}[{site!r}] has shape {drawn}, but observed_data[{site!r}] has {observed}. "
                    "Draw a whole data set each time: pass draws with shape (num_draws, num_rows, *event_shape)."
                )


def _dimensions(groups: Groups, dims: Dimensions) -> dict[str, dict[str, list[str]]]:
    """The names of all axes, by group and site."""
    given = {_netcdf_name(site): _names(site, names) for site, names in dims.items()}
    sites = {site for values in groups.values() for site in values}
    for site in given:
        if site not in sites:
            there = ", ".join(map(repr, sorted(sites)))
            raise ValueError(f"dims names the axes of {site!r}, which is in no group; there are {there}.")
    return {
        group: {site: _axes(group, site, array, given.get(site, [])) for site, array in values.items()}
        for group, values in groups.items()
    }


def _names(site: str, names: Any) -> list[str | None]:
    """The given names of a site's axes, checked."""
    if not isinstance(names, list | tuple):
        raise TypeError(
            f"dims[{site!r}] must be a list of names, but is {shown(names)}. Pass a list, such as ['data']."
        )
    names = [None if name is None else _netcdf_name(name) for name in names]
    known = [name for name in names if name is not None]
    if len({*known, *RESERVED}) < len(known) + len(RESERVED):
        raise ValueError(
            f"dims[{site!r}] is {names}: names must differ, and {listed(RESERVED)} are added where they "
            "belong. Name the other axes alone."
        )
    return names


def _axes(group: str, site: str, array: np.ndarray, names: list[str | None]) -> list[str]:
    """The names of a value's axes: those of the group, then the given ones, then the site's own."""
    leading = LEADING_DIMENSIONS.get(group, ())
    shape = array.shape[len(leading) :]
    if len(names) > len(shape):
        raise ValueError(
            f"dims[{site!r}] names {len(names)} axes, {names}, but in {group} the site has shape {shape}"
            f"{' at each draw' if group in DRAWN_GROUPS else ''}. Drop a name, or draw the site in its plate."
        )
    numbers = count()
    named = [*names, *[None] * (len(shape) - len(names))]
    return [*leading, *(f"{site}_dim_{next(numbers)}" if name is None else name for name in named)]


def _check(groups: Groups, dimensions: dict[str, dict[str, list[str]]], coords: dict[str, np.ndarray]) -> None:
    """Refuse names and coordinates that do not fit the values."""
    used = {name for sites in dimensions.values() for names in sites.values() for name in names}
    _check_coords(coords, used)
    for group, values in groups.items():
        for site in values:
            if site in used:
                raise ValueError(f"{group}[{site!r}] has the name of a dimension. Rename the site or the dimension.")
        _check_sizes(group, values, dimensions[group], coords)


def _check_coords(coords: dict[str, np.ndarray], used: set[str]) -> None:
    for name, places in coords.items():
        if name not in used:
            there = ", ".join(map(repr, sorted(used)))
            raise ValueError(f"coords names {name!r}, which is no dimension; there are {there}. Name it in dims.")
        if places.ndim != 1:
            raise ValueError(f"coords[{name!r}] has shape {places.shape}, but expected a list of what stands along it.")


def _check_sizes(
    group: str, values: dict[str, np.ndarray], dimensions: dict[str, list[str]], coords: dict[str, np.ndarray]
) -> None:
    """Refuse a dimension that has two lengths in a group, or another than its coordinates."""
    lengths = {name: (len(places), f"coords[{name!r}]") for name, places in coords.items()}
    for site, array in values.items():
        place = f"{group}[{site!r}]"
        for name, length in zip(dimensions[site], array.shape, strict=True):
            expected, elsewhere = lengths.setdefault(name, (length, place))
            if length != expected:
                raise ValueError(
                    f"dimension {name!r} has length {expected} in {elsewhere}, but {length} in {place}. "
                    "Give axes of different lengths different names in dims."
                )
