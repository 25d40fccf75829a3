r"""How networks see observations that are sets or series, or have gaps.

A set or a series of :math:`L` elements is seen as :math:`L` rows :math:`(v_l, m_l)`, with :math:`v_l` the standardized
coordinates of an element and :math:`m_l` 1 where it is there, else 0, as is :math:`v_l` then. All elements share one
scale a feature, which those of the first rows have set that are there. Rows with gaps are seen so entry by entry.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.coordinates import Coordinates

Sight = Callable[[Constraint, Tensor], Coordinates]
"""Makes coordinates of a support and rows."""


class View(nn.Module):
    """A site as networks see it, with what else they are told of it.

    Args:
        name: The site's name.
        mask: The name of its mask, where it has one.
        num_free: How many dimensions after that of the rows may have any size.
    """

    is_image = False
    shape: tuple[int, ...]
    """That of what is seen of a row; a dimension that may have any size is -1."""

    def __init__(self, name: str, mask: str | None, num_free: int = 0) -> None:
        super().__init__()
        self.name = name
        self.mask = mask
        self.num_free = num_free
        self.event_shape: tuple[int, ...] = ()
        self.mask_dims = 0
        """The dimensions of a mask, that of rows among them."""

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        """What networks see of rows, with shape `(num_rows, *shape)`.

        Args:
            rows: Rows by name, among them the site's and those of its mask; without, all entries are there.
        """
        return self.seen(rows[self.name], self.mask_of(rows))

    def mask_in(self, rows: Mapping[str, Tensor]) -> Tensor | None:
        """The mask among rows by name, `None` where it is not."""
        return None if self.mask is None else rows.get(self.mask)

    def mask_of(self, rows: Mapping[str, Tensor]) -> Tensor:
        """The same, or one by which all entries are there."""
        mask = self.mask_in(rows)
        return self.all_there(rows[self.name]) if mask is None else mask

    def all_there(self, values: Tensor) -> Tensor:
        """A mask by which all entries of rows are there."""
        return torch.ones(values.shape[: self.mask_dims], dtype=torch.bool, device=values.device)

    def seen(self, values: Tensor, mask: Tensor) -> Tensor:
        """What networks see of rows, with shape `(num_rows, *shape)`.

        Args:
            values: The site's rows, with shape `(num_rows, *event_shape)`.
            mask: Which entries are there, with as many first dimensions of that shape as the first mask had.
        """
        raise NotImplementedError

    def meet(self, rows: Mapping[str, Tensor], role: str, mask_dims: int | None) -> None:
        """Note the shapes of the first rows.

        Args:
            rows: The first rows by name.
            role: What has the site, for messages.
            mask_dims: The dimensions of a mask where they are known from before.

        Raises:
            TypeError, ValueError: The mask does not fit the rows.
        """
        values, mask = rows[self.name], self.mask_in(rows)
        fewest = 1 + self.num_free
        if values.dim() < fewest:
            raise ValueError(
                f"{self.name!r} is a {'set or a series' if self.num_free else 'site'} to the {role}, with shape "
                f"(num_rows, length, ...), but has shape {tuple(values.shape)}. Pass rows with a dimension of elements."
            )
        self.event_shape = tuple(values.shape[1:])
        known = fewest if mask is None else mask.dim()
        self.mask_dims = min(max(fewest, mask_dims or known), values.dim())
        self.check(rows, role)
        self.check_any(rows)

    def check(self, rows: Mapping[str, Tensor], role: str) -> None:
        """Refuse rows, or a mask, of another shape than at first; this reads no value.

        Args:
            rows: Rows by name.
            role: What has the site, for the message.

        Raises:
            TypeError: The mask holds no truth values.
            ValueError: A shape is another one.
        """
        values, fixed = rows[self.name], self.event_shape[self.num_free :]
        if values.dim() != 1 + len(self.event_shape) or tuple(values.shape[1 + self.num_free :]) != fixed:
            shape = ", ".join(map(str, ("num_rows", *("length",) * self.num_free, *fixed)))
            raise ValueError(
                f"the {role} was built for rows of {self.name!r} with shape ({shape}), but is called with shape "
                f"{tuple(values.shape)}. Pass rows of that shape, or make a new {role}."
            )
        mask = self.mask_in(rows)
        if mask is None:
            return
        if mask.dtype != torch.bool:
            raise TypeError(
                f"the mask {self.mask!r} of {self.name!r} must hold truth values (torch.bool), True where an entry is "
                f"there, but is of type {mask.dtype}. Pass it as mask.bool()."
            )
        wanted = tuple(values.shape[: self.mask_dims])
        if mask.shape != wanted:
            raise ValueError(
                f"the mask {self.mask!r} of {self.name!r} has shape {tuple(mask.shape)}, but {self.name!r} has shape "
                f"{tuple(values.shape)}: expected {wanted}. Pass a truth value for each entry that may be missing."
            )

    def check_any(self, rows: Mapping[str, Tensor]) -> None:
        """Refuse sets and series without an element; this waits for the device.

        Args:
            rows: Rows by name.

        Raises:
            ValueError: There is one; the message has its row.
        """
        mask = self.mask_in(rows) if self.num_free else None
        empty = [] if mask is None else (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
        if empty:
            others = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            raise ValueError(
                f"the mask {self.mask!r} has no entry in row {empty[0]}{others}, but each row of {self.name!r} needs "
                "at least one. Leave such rows out."
            )

    def built(self) -> dict[str, Any]:
        """What the first rows decided of its parts, beside what its coordinates tell."""
        return {"mask_dims": self.mask_dims}

    def tell(self, rows: Mapping[str, Tensor]) -> None:
        """Warn of what was guessed from the first rows, by name; nothing by default."""

    @property
    def size(self) -> int:
        """The number of coordinates of a row."""
        return torch.Size(self.shape).numel()


class Gaps(View):
    """Rows of one shape of which entries may be missing: their coordinates, 0 where they are, and the mask itself.

    Args:
        name: The site's name.
        mask: The mask's name.
        support: The site's support.
        rows: The first rows by name.
        sight: Makes the coordinates.
        role: What has the site, for messages.
        mask_dims: As of :meth:`View.meet`.
    """

    def __init__(
        self,
        name: str,
        mask: str,
        support: Constraint,
        rows: Mapping[str, Tensor],
        sight: Sight,
        role: str,
        mask_dims: int | None = None,
    ) -> None:
        super().__init__(name, mask)
        self.meet(rows, role, mask_dims)
        values = rows[name].detach()
        self.coordinates = sight(support, filled(values, self.mask_of(rows)))
        self.is_image = self.coordinates.is_image
        self.shape = tuple(self.seen(values[:1], self.all_there(values[:1])).shape[1:])

    def seen(self, values: Tensor, mask: Tensor) -> Tensor:
        coordinates = self.coordinates(values)
        there = _beside(mask, coordinates)
        kept = torch.where(there, coordinates, 0.0)
        if not self.is_image:
            return torch.cat([kept.flatten(1), mask.reshape(len(mask), -1).to(kept.dtype)], 1)
        image = (len(kept), -1, *kept.shape[-2:])
        return torch.cat([kept.reshape(image), there.to(kept.dtype).expand_as(kept).reshape(image)], 1)

    def tell(self, rows: Mapping[str, Tensor]) -> None:
        self.coordinates.tell(filled(rows[self.name], self.mask_of(rows)))


class Elements(View):
    r"""Sets and series: the coordinates of each element, whether its own entries are there, and whether it is there.

    Args:
        name: The site's name.
        mask: The mask's name, where there is one. It has shape `(num_rows, length)`, or that of the rows where single
            entries of an element may be missing.
        support: The site's support.
        rows: The first rows by name.
        sight: Makes the coordinates of elements.
        role: What has the site, for messages.
        is_ordered: Whether it is a series.
        mask_dims: As of :meth:`View.meet`.
        longest: The length of the longest series at first, where it is known from before.
        has_deviation: Whether networks see how far the elements of a set are spread.

    Attributes:
        number: The harmonic mean of the numbers of elements at first, which is the unit of later ones.
    """

    number: Tensor

    def __init__(
        self,
        name: str,
        mask: str | None,
        support: Constraint,
        rows: Mapping[str, Tensor],
        sight: Sight,
        role: str,
        is_ordered: bool,
        mask_dims: int | None = None,
        longest: int | None = None,
        has_deviation: bool = True,
    ) -> None:
        super().__init__(name, mask, num_free=1)
        self.is_ordered = is_ordered
        self.meet(rows, role, mask_dims)
        values = rows[name].detach()
        self.longest = longest or values.shape[1]
        there = self._of_elements(rows)
        self.coordinates = sight(_of_an_element(support, len(self.event_shape) - 1), self._elements(rows))
        numbers = there.sum(1).clamp_min(1).to(self.coordinates.mean.dtype)
        self.register_buffer("number", 1 / (1 / numbers).mean())
        self.num_features = self.seen(values[:1, :1], self.all_there(values[:1, :1])).shape[-1] - 1
        self.shape = (-1, self.num_features + 1)
        self.num_deviations = self.coordinates.size if has_deviation and not is_ordered else 0

    def seen(self, values: Tensor, mask: Tensor) -> Tensor:
        coordinates = self.coordinates(values.flatten(0, 1)).reshape(*values.shape[:2], self.coordinates.size)
        there = mask.flatten(2).any(2) if mask.dim() > 2 else mask
        entries = self._entries(mask, coordinates)
        kept = torch.where(there.unsqueeze(2) if entries is None else entries, coordinates, 0.0)
        parts = [kept] if entries is None else [kept, mask.flatten(2).to(kept.dtype)]
        return torch.cat([*parts, there.unsqueeze(2).to(kept.dtype)], 2)

    def tell(self, rows: Mapping[str, Tensor]) -> None:
        self.coordinates.tell(self._elements(rows))

    def built(self) -> dict[str, Any]:
        of_kind = {"longest": self.longest} if self.is_ordered else {"has_deviation": bool(self.num_deviations)}
        return {**super().built(), **of_kind}

    def _entries(self, mask: Tensor, coordinates: Tensor) -> Tensor | None:
        """Which coordinates are there, with their shape, where an element's entries may be missing by themselves."""
        if mask.dim() == 2:
            return None
        entries = mask.flatten(2)
        return entries.repeat_interleave(coordinates.shape[2] // entries.shape[2], 2)

    def _of_elements(self, rows: Mapping[str, Tensor]) -> Tensor:
        mask = self.mask_of(rows)
        return mask.flatten(2).any(2) if mask.dim() > 2 else mask

    def _elements(self, rows: Mapping[str, Tensor]) -> Tensor:
        """The elements that are there, with shape `(num_elements, *element_shape)`."""
        mask, there = self.mask_of(rows), self._of_elements(rows)
        elements = rows[self.name].detach()[there]
        return elements if mask.dim() == 2 else filled(elements, mask[there])

    def extra_repr(self) -> str:
        masked = "" if self.mask is None else f", mask={self.mask!r}"
        return f"{self.name!r}, a {'series' if self.is_ordered else 'set'}{masked}"


def seen_by(sites: Any, rows: Mapping[str, Tensor]) -> list[Tensor]:
    """What networks see of each site, with shape `(num_rows, *shape)`.

    Args:
        sites: The sites' coordinates or views.
        rows: Rows by name, masks among them.
    """
    return [site(rows) if isinstance(site, View) else site(rows[site.name]) for site in sites]


def filled(values: Tensor, mask: Tensor) -> Tensor:
    """Rows with each missing entry in the place of one of the same feature that is there, so that all are spread alike.

    Args:
        values: Rows, with shape `(num_rows, *event_shape)`.
        mask: Which entries are there, with as many first dimensions of that shape.
    """
    columns = values.reshape(len(values), -1).clone()
    there = _beside(mask, values).expand_as(values).reshape(len(values), -1)
    for column, present in zip(columns.T, there.T, strict=True):
        known = column[present]
        if 0 < len(known) < len(column):
            column[~present] = known.repeat(-(-len(column) // len(known)))[: len(column) - len(known)]
    return columns.reshape(values.shape)


def _beside(mask: Tensor, values: Tensor) -> Tensor:
    """A mask with ones for the dimensions that it lacks, to be used with values."""
    return mask.reshape(*mask.shape, *(values.dim() - mask.dim()) * (1,))


def _of_an_element(support: Constraint, num_dims: int) -> Constraint:
    """The support of an element, from that of rows of them; the real line where its bounds differ between elements.

    Args:
        support: The support of rows.
        num_dims: The dimensions of an element.
    """
    while isinstance(support, constraints.independent) and support.event_dim > num_dims:
        inner = support.reinterpreted_batch_ndims - 1
        support = constraints.independent(support.base_constraint, inner) if inner else support.base_constraint
    bounds = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    is_one = all(not isinstance(bound, Tensor) or bound.numel() == 1 for bound in bounds)
    return support if is_one and support.event_dim <= num_dims else constraints.real
