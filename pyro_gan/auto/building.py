"""What networks have in common that build themselves when they are first used."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from pyro_gan.auto.coordinates import Coordinates, is_image, kinds_of_condition
from pyro_gan.auto.embedded import Embedded
from pyro_gan.auto.repeated import Repeated, can_be_parted
from pyro_gan.auto.structure import Structure
from pyro_gan.auto.views import Elements, Gaps, View
from pyro_gan.checks import positive_integer, shown

VIEWED = ("mask_dims", "longest", "has_deviation")
"""What :meth:`SelfBuilding.built` tells of views, not of coordinates."""


class SelfBuilding(nn.Module):
    """A module without parts until its first use.

    Args:
        model: A Pyro model to look at then; it is no part of the module, and let go of once that is built.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
        images: Whether rows that have the shape of images are images; by default their features' ranges tell.
        structure: Which sites are sets or series, have gaps, or are embedded by a module of the user's.

    Raises:
        TypeError: `model` is not callable, `width` or `depth` is no integer, or `images` no truth value.
        ValueError: `width` or `depth` is not positive.
    """

    role = "network"
    """What to call it in messages."""
    looks_for_repeats = False
    """Whether it sees numbers as repeated measurements where they can be such."""

    def __init__(
        self,
        model: Callable[..., Any] | None,
        width: int,
        depth: int,
        images: bool | None,
        structure: Structure | None = None,
    ) -> None:
        super().__init__()
        if model is not None and not callable(model):
            raise TypeError(f"model must be a Pyro model, a callable, but is {shown(model)} ({type(model).__name__}).")
        self.width = positive_integer("width", width)
        self.depth = positive_integer("depth", depth)
        if images is not None and not isinstance(images, bool):
            raise TypeError(
                f"images must be True or False, or None to see by the rows' ranges, but is {shown(images)} "
                f"({type(images).__name__})."
            )
        self.images = images
        self.structure = structure or Structure()
        self.conditions: frozenset[str] = frozenset()
        """What it is told of rows, and the model draws not."""
        self.borrowed: frozenset[str] = frozenset()
        """Sites whose embedding is another network's, which trains it."""
        self.repeated: set[str] = set()
        """The sites whose numbers it sees as repeated measurements; one with the network that it borrows from."""
        self.tells_large = True
        """Whether it sees large sites otherwise than small ones."""
        self._as: Mapping[str, Mapping[str, Any]] | None = {}
        self._model: tuple[Any] = (model,)  # in a tuple, or its parameters would be this module's

    @property
    def is_built(self) -> bool:
        """Whether it has been used, and has its parts."""
        return bool(self._modules)

    def built(self) -> dict[str, dict[str, Any]]:
        """What it saw in the first rows of each site that decides on its parts, as labels, images and lengths."""
        found: dict[str, dict[str, Any]] = {}
        for site in self.modules():
            if isinstance(site, Coordinates):
                seen = {
                    "kinds": list(site.kinds),
                    "is_image": site.is_image,
                    "is_mapped": site.support is not None,
                    "is_reflected": site.is_reflected,
                    "is_large": site.is_large,
                    "has_jumps": site.has_jumps,
                    "has_odds": site.has_odds,
                    "is_repeated": isinstance(site, Repeated),
                }
                found[site.name] = {**seen, **found.get(site.name, {})}
            elif isinstance(site, View):
                found[site.name] = site.built()
        return found

    def build_as(self, built: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Have the parts that another one has, whatever its own first rows look like.

        Args:
            built: What :meth:`built` of the other returned; `None` where it is of a version that did not look at rows.
        """
        self._as = built

    def seen(
        self,
        name: str,
        support: Constraint,
        rows: Tensor,
        dtype: torch.dtype,
        kind: Callable[..., Coordinates] = Coordinates,
    ) -> Coordinates:
        """The coordinates of a site.

        Args:
            name: Its name.
            support: Its support.
            rows: Its first rows, with shape `(num_rows, *event_shape)`.
            dtype: The coordinates' type.
            kind: What makes them.
        """
        of_shape = is_image(tuple(rows.shape[1:]))
        asked = {
            "is_image": None if self.images is None else self.images and of_shape,
            "is_large": None if self.tells_large else False,
            "has_odds": True,
        }
        known = {"kinds": (), "is_image": of_shape, "is_mapped": True} if self._as is None else self._as.get(name, {})
        if known:  # a state that does not tell is of a version that had none of these
            known = {"is_reflected": False, "is_large": False, "has_jumps": False, "has_odds": False, **known}
        elif name in self.conditions:
            known = {"kinds": kinds_of_condition(rows)}
        kept = {key: value for key, value in {**asked, **known}.items() if key not in (*VIEWED, "is_repeated")}
        return kind(name, support, rows, dtype, **kept)

    def view(
        self, name: str, support: Constraint, rows: Mapping[str, Tensor], dtype: torch.dtype
    ) -> Coordinates | View:
        """A site as the networks are to see it: by its coordinates, or as its structure says.

        Args:
            name: Its name.
            support: Its support.
            rows: The first rows by name, each with shape `(num_rows, *event_shape)`, masks among them.
            dtype: The coordinates' type.

        Raises:
            TypeError: A mask holds no truth values, or an embedding returns no tensor.
            ValueError: A mask has another shape than its rows, or none in a row of a set, or an embedding returns
                something else than a vector a row.
        """
        said, mask = self.structure, self.structure.masks.get(name)
        known = {} if self._as is None else self._as.get(name, {})
        before = {key: known[key] for key in VIEWED if key in known}
        is_free = name in said.sets or name in said.series

        def sight(support: Constraint, values: Tensor) -> Coordinates:
            return self.seen(name, support, values, dtype)

        if name in said.embedding:
            trains = name not in self.borrowed
            module = said.embedding[name].to(rows[name].device)
            return Embedded(name, mask, module, rows, dtype, self.role, is_free, trains, before.get("mask_dims"))
        if is_free:
            if known or self._as is None:  # a state that does not tell is of a version without
                before = {"has_deviation": False, **before}
            return Elements(name, mask, support, rows, sight, self.role, name in said.series, **before)
        if mask is not None:
            return Gaps(name, mask, support, rows, sight, self.role, before.get("mask_dims"))
        site = self.seen(name, support, rows[name], dtype)
        is_asked = self.looks_for_repeats or name in self.repeated
        is_repeated = is_asked if self._as == {} else known.get("is_repeated", False)
        if not (is_repeated and can_be_parted(site, support)):
            return site
        self.repeated.add(name)
        return self.seen(name, support, rows[name], dtype, Repeated)

    def borrow(self, other: Any) -> None:
        """See sites as another network does, and leave the training of an embedding that both have to that one.

        Args:
            other: The other network, such as a guide.
        """
        if not isinstance(other, SelfBuilding):
            self.borrowed = frozenset()
            return
        self.repeated = other.repeated
        theirs, ours = other.structure.embedding, self.structure.embedding
        self.borrowed = frozenset(
            site for site, module in ours.items() if any(module is each for each in theirs.values())
        )

    def extra_repr(self) -> str:
        return f"width={self.width}, depth={self.depth}{'' if self.is_built else ', not built before the first call'}"

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        if not self.is_built and any(name.startswith(prefix) for name in state_dict):
            raise ValueError(
                f"{type(self).__name__} has no parts yet to load a state into: it builds itself at its first call. "
                "Call it once on rows of the data, then load the state."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_event_shape(role: str, name: str, rows: Tensor, event_shape: tuple[int, ...]) -> None:
    """Refuse rows of another shape than at first.

    Args:
        role: What refuses them, for the message.
        name: The name of the rows.
        rows: Rows, which should have shape `(num_rows, *event_shape)`.
        event_shape: The shape of a row at first.

    Raises:
        ValueError: They have one; the message names both.
    """
    if rows.dim() == 0 or tuple(rows.shape[1:]) != event_shape:
        came = f"event shape {tuple(rows.shape[1:])}" if rows.dim() else "a single number"
        raise ValueError(
            f"the {role} was built for rows of {name!r} with event shape {event_shape}, but is called with {came}. "
            f"Pass rows with shape {_shown(('num_rows', *event_shape))}, or make a new {role}."
        )


def check_rows_of(role: str, site: Coordinates | View, rows: Mapping[str, Tensor]) -> None:
    """Refuse rows of a site, or a mask, of another shape than at first.

    Args:
        role: What refuses them, for the message.
        site: The site.
        rows: Rows by name.

    Raises:
        TypeError: A mask holds no truth values.
        ValueError: A shape is another one; the message names both.
    """
    if isinstance(site, View):
        site.check(rows, role)
    else:
        check_event_shape(role, site.name, rows[site.name], site.event_shape)


def check_lengths(rows: Mapping[str, Tensor]) -> None:
    """Refuse sites that differ in their number of rows.

    Raises:
        ValueError: They do, or one is a single number.
    """
    for name, values in rows.items():
        if values.dim() == 0:
            raise ValueError(f"{name!r} has no rows: it is a single number. Pass rows with shape (num_rows, ...).")
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{number} of {name!r}" for name, number in lengths.items())
        raise ValueError(f"expected as many rows of each site, but got {shown}. Pass arrays with one entry a row.")


def floating_type(values: Mapping[str, Tensor]) -> torch.dtype:
    """The most precise floating-point type among tensors; torch's default where none has one."""
    types = [value.dtype for value in values.values() if value.is_floating_point()]
    return max(types, key=lambda dtype: torch.finfo(dtype).bits, default=torch.get_default_dtype())


def _shown(shape: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
