r"""Standardized coordinates on the real line, for the rows of any site.

A network sees a site's rows :math:`x` through

.. math:: v = r \Bigl(\operatorname{asinh}\frac{T^{-1}(x) - \mu}{r \sigma} - o\Bigr),

where :math:`T` is the bijection from the real line to the site's support (exp for positive numbers, stick breaking for
the simplex; for intervals the identity, or the logistic function), and :math:`\mu`, :math:`\sigma`, :math:`r` and
:math:`o` come from how each feature is spread over the first rows (:mod:`pyro_gan.auto.spread`). So a change of units
changes nothing, up to rounding, and a feature that hardly varied in the first rows, or one with long tails, does not
drown the others.

Being a bijection, the map leaves the ratio of two densities as it is.

References:
    Kucukelbir et al. (2017), "Automatic Differentiation Variational Inference", section 2.3: the map to the real line.
"""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.spread import REACH, Spread, coordinates_of, crowded, log_odds, numbers_at, plain_spread, spread_of
from pyro_gan.penalties.scales import are_in_one_unit
from pyro_gan.players.categories import are_labels
from pyro_gan.players.player import fill_in
from pyro_gan.players.supports import (
    BOUNDS,
    INTERVALS,
    has_bijection,
    innermost,
    interior,
    reflected,
    tensor_bounds,
    totals_of,
    with_bounds,
)

SMALLEST_IMAGE = 8
"""The height and width from which on an array is taken for an image."""

MOST_CATEGORIES = 64
"""The number of values of an integer site up to which each has a coordinate of its own."""

LARGE = 64
"""The numbers of a row from which on a site is large."""

FEWEST_REPEATS = 4
"""How many times a value comes on average in the first rows, where integers are taken for labels."""

CORNER = 1e-4
"""How near to a corner of a simplex a row lies that counts as the corner."""

MOSTLY = 0.9
"""The part of the rows of a simplex above which being corners makes labels of them."""

AT_END = 1e-3
"""How near to an end of an interval a number lies, in standard deviations, that counts as at the end."""

FEW_AT_ENDS = 0.01
"""The part of the numbers at the ends up to which an interval is no scale of many orders of magnitude there."""


class Coordinates(nn.Module):
    r"""The map from a site's rows to standardized coordinates on the real line, and back.

    Integers from a bounded range of 3 to 64 values, such as labels, have a coordinate for each value. So have integers
    of unknown support that are few kinds, who are numbers besides; other integers are numbers alone, as are supports
    without a bijection to the real line, and rows of a simplex that are corners of it, as one-hot labels are. Images in
    an interval keep their pixels; the pixels of a channel share mean and standard deviation. A feature that is constant
    in the first rows has :math:`\sigma = 1`.

    Numbers in an interval are kept as they are, and what lies outside is reflected at the ends: a posterior may be
    densest there, and the logistic function would thin it out. That function is :math:`T` where many of the first rows
    are next to an end, as probabilities of several orders of magnitude are.

    Counts out of a known number, such as successes in some trials, may have their log-odds beside them: no success and
    one are farther apart than fifteen and sixteen.

    Args:
        name: The site's name, for printing.
        support: The site's support.
        rows: The first rows, with shape `(num_rows, *event_shape)`.
        dtype: The coordinates' type.
        is_image: Whether the rows are images; by default their shape and their features' ranges tell.
        kinds: The values of labels; by default the rows tell whether they are such.
        is_mapped: Whether the rows are mapped to the real line, where there is a map; by default they tell.
        is_plain: Whether mean and standard deviation of all rows standardize, whatever the rows look like.
        is_reflected: Whether numbers in an interval are kept as they are; by default the rows tell.
        is_large: Whether networks see it apart from small sites; by default where a row has at least 64 numbers,
            of which no label is made.
        has_jumps: Whether a guide may jump from one of its values to another.
        has_odds: Whether counts out of a known number, which are no labels, have two coordinates each.
    """

    mean: Tensor
    scale: Tensor
    reach: Tensor
    offset: Tensor
    values: Tensor
    fewest: Tensor
    most: Tensor

    later_buffers: ClassVar[dict[str, float]] = {"reach": REACH, "offset": 0.0}
    """What states have not that were saved before features were bent, and the values that change nothing."""
    later_format: ClassVar[int] = 1

    def __init__(
        self,
        name: str,
        support: Constraint,
        rows: Tensor,
        dtype: torch.dtype,
        *,
        is_image: bool | None = None,
        kinds: Sequence[int] | None = None,
        is_mapped: bool | None = None,
        is_plain: bool = False,
        is_reflected: bool | None = None,
        is_large: bool | None = None,
        has_jumps: bool = True,
        has_odds: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.has_jumps = has_jumps
        self.event_shape = tuple(rows.shape[1:])
        self.is_image = innermost(support).event_dim == 0 and (
            looks_like_images(rows) if is_image is None else is_image
        )
        self.categories = _categories(support, rows)
        looks = not (is_plain or self.categories or self.is_image or kinds is not None)
        self.kinds = _kinds(support, rows) if looks else tuple(kinds or ())
        self.are_guessed = looks and bool(self.kinds)
        if self.kinds:
            self.register_buffer("values", torch.tensor(self.kinds, device=rows.device))
        totals = totals_of(support) if has_odds and not (self.categories or self.kinds or self.is_image) else None
        self.has_odds = totals is not None
        if totals is not None:
            fewest, most = (torch.as_tensor(each, dtype=dtype, device=rows.device) for each in totals)
            self.register_buffer("fewest", fewest)
            self.register_buffer("most", most)
        is_label = isinstance(innermost(support), type(constraints.simplex)) and _are_corners(rows)
        is_mapped = not is_label if is_mapped is None else is_mapped
        self.support = support if is_mapped and self._can_be_mapped(support) else None
        if is_reflected is None:
            is_reflected = isinstance(innermost(support), INTERVALS) and _are_off_the_ends(rows, innermost(support))
        self.is_reflected = self.support is not None and is_reflected
        for bound, value in tensor_bounds(self.support).items():  # buffers go where the module goes
            self.register_buffer(bound, value.to(dtype))
        for buffer in Spread._fields:
            self.register_buffer(buffer, torch.zeros((), dtype=dtype, device=rows.device))
        self.meet(rows.detach())
        real = self.to_real(rows.detach())
        self.shape = tuple(real.shape[1:])
        if is_large is None:
            is_large = rows.shape[1:].numel() >= LARGE and not (self.categories or self.kinds)
        self.is_large = is_large
        dims = (0, -2, -1) if self.is_image else (0,)
        is_plain = is_plain or self.is_image or bool(self.categories)
        for buffer, value in zip(
            Spread._fields, plain_spread(real, dims) if is_plain else spread_of(real), strict=True
        ):
            setattr(self, buffer, value)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        fill_in(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def size(self) -> int:
        """The number of coordinates of a row."""
        return torch.Size(self.shape).numel()

    @property
    def spread(self) -> Spread:
        """How the first rows are spread on the real line."""
        return Spread(self.mean, self.scale, self.reach, self.offset)

    def meet(self, rows: Tensor) -> None:
        """Note what the map to the real line needs of the first rows beside supports; by default nothing."""

    def forward(self, rows: Tensor) -> Tensor:
        """The coordinates of rows.

        Args:
            rows: Rows, with shape `(num_rows, *event_shape)`.

        Returns:
            The coordinates, with shape `(num_rows, *shape)`.
        """
        return coordinates_of(self.to_real(rows), self.spread)

    def on_a_line(self, rows: Tensor) -> Tensor:
        """The numbers that :meth:`to_support` takes: the coordinates, but along a line where features are not bent.

        Args:
            rows: Rows, with shape `(num_rows, *event_shape)`.

        Returns:
            The numbers, with shape `(num_rows, *shape)`.
        """
        real = self.to_real(rows)
        return torch.where(self.reach != REACH, coordinates_of(real, self.spread), (real - self.mean) / self.scale)

    def to_real(self, rows: Tensor) -> Tensor:
        """The rows on the real line, not standardized, with shape `(num_rows, *shape)`.

        Args:
            rows: Rows, with shape `(num_rows, *event_shape)`.
        """
        if self.categories:
            values = torch.arange(self.categories.start, self.categories.stop, device=rows.device)
            return (rows.unsqueeze(-1) == values).to(self.mean.dtype)
        if self.kinds:
            number = rows.unsqueeze(-1)
            return torch.cat([number == self.values, number], -1).to(self.mean.dtype)
        rows = rows.to(self.mean.dtype)
        if self.has_odds:
            inside = rows.clamp(self.fewest, self.most)
            return torch.stack([rows, log_odds(inside - self.fewest, self.most - inside)], -1)
        support = self._placed_support()
        if support is None or self.is_reflected:
            return rows
        return biject_to(support).inv(interior(rows, support))

    def to_support(self, standardized: Tensor) -> Tensor:
        """Values in the support.

        Args:
            standardized: Numbers on the real line, with mean 0 and standard deviation 1 where the values are spread as
                the first rows, with shape `(*, *shape)`.

        Returns:
            The values, with shape `(*, *event_shape)`.
        """
        real = numbers_at(standardized, self.spread)
        support = self._placed_support()
        if support is None:
            return real
        return reflected(real, innermost(support)) if self.is_reflected else cast(Tensor, biject_to(support)(real))

    def ends(self) -> tuple[Tensor, Tensor]:
        """The ends at which numbers along a line are reflected, lower and upper ones; infinite where they are not.

        Returns:
            Two tensors with shape `(*shape)`.
        """
        support = self._placed_support()
        if support is None or not self.is_reflected:
            return self.mean.new_full(self.shape, -torch.inf), self.mean.new_full(self.shape, torch.inf)
        interval, row = innermost(support), self.mean.new_zeros(1, *self.event_shape)
        return self.on_a_line(row + interval.lower_bound)[0], self.on_a_line(row + interval.upper_bound)[0]

    def extra_repr(self) -> str:
        kind = " (an image)" if self.is_image else ""
        through = "numbers"
        if self.categories:
            through = f"a coordinate for each of {len(self.categories)} values"
        elif self.kinds:
            through = f"a coordinate for each of the {len(self.kinds)} values that the first rows have, and numbers"
        elif self.has_odds:
            through = "counts and their log-odds"
        elif self.is_reflected:
            through = f"{self.support} with reflecting ends"
        elif self.support is not None:
            through = f"{self.support} mapped to the real line"
        num_bent = int((self.reach != REACH).sum())
        bent = f", long tails bent in {num_bent} of {self.reach.numel()}" if num_bent else ""
        return f"{self.name!r}, shape {self.event_shape}{kind}, {through}{bent}, standardized"

    def tell(self, rows: Tensor) -> None:
        """Warn of what was guessed from the first rows, and of what can hardly be seen through the coordinates.

        Args:
            rows: The first rows, with shape `(num_rows, *event_shape)`.
        """
        if self.are_guessed:
            warnings.warn(
                f"{self.name!r} has integers of {len(self.kinds)} kinds, which are taken for labels: each has a "
                "coordinate of its own, beside the number. Give it floating-point numbers if they are quantities alone,"
                " or draw it from a Categorical in the model to say that they are labels.",
                UserWarning,
                stacklevel=2,
            )
        if self.is_image or self.categories or self.kinds:
            return
        if found := self.crowded(rows.detach()):
            feature, part = max(found, key=lambda each: each[1])
            which = f"feature {feature} of {self.name!r}" if self.event_shape else repr(self.name)
            warnings.warn(
                f"{part:.0%} of the different values of {which} lie within a hundredth of its deviation, where they "
                "can hardly be told apart. Pass what tells them apart, such as their logarithm, by transform=.",
                RuntimeWarning,
                stacklevel=2,
            )

    def crowded(self, rows: Tensor) -> list[tuple[int, float]]:
        """The features of which most numbers can hardly be told apart, and their part, as :func:`crowded` has them."""
        return crowded(self(rows), self.to_real(rows))

    def _can_be_mapped(self, support: Constraint) -> bool:
        base = innermost(support)
        if support.is_discrete or isinstance(base, type(constraints.real)) or not has_bijection(support):
            return False
        return not (self.is_image and isinstance(base, INTERVALS))

    def _placed_support(self) -> Constraint | None:
        """The mapped support, with bounds that lie where the module does."""
        bounds = {name: self._buffers[name] for name in BOUNDS if name in self._buffers}
        return self.support if self.support is None else with_bounds(self.support, bounds)


def looks_like_images(rows: Tensor) -> bool:
    """Whether rows are images: of such a shape, and all features in one unit, as pixels are.

    A series of measurements has the shape of an image too, but each feature its own range.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`.
    """
    if not is_image(tuple(rows.shape[1:])):
        return False
    return not len(rows) or bool(are_in_one_unit(rows))


def is_image(event_shape: tuple[int, ...]) -> bool:
    """Whether rows of this shape are images: (channels, height, width) or (height, width), at least 8 by 8."""
    return len(event_shape) in (2, 3) and min(event_shape[-2:]) >= SMALLEST_IMAGE


def _are_off_the_ends(rows: Tensor, interval: Any) -> bool:
    """Whether few numbers in an interval lie next to its ends, for how far they are spread."""
    rows = rows.detach().double()
    if not len(rows) or not rows.isfinite().all():
        return True
    to_end = torch.minimum((rows - interval.lower_bound).abs(), (interval.upper_bound - rows).abs())
    is_at_end = to_end <= AT_END * rows.std(0, correction=0)
    return float(is_at_end.double().mean()) <= FEW_AT_ENDS


def _categories(support: Constraint, rows: Tensor) -> range:
    """The values of a site of integers where each has a coordinate of its own, else none."""
    base = innermost(support)
    is_bounded = isinstance(base, constraints.integer_interval) and not tensor_bounds(base)
    if not is_bounded or rows.is_floating_point() or is_image(rows.shape[1:]):
        return range(0)
    values = range(int(base.lower_bound), int(base.upper_bound) + 1)
    return values if 2 < len(values) <= MOST_CATEGORIES else range(0)


def _kinds(support: Constraint, rows: Tensor) -> tuple[int, ...]:
    """The values of integers that look like labels, where no support says what they are, else none."""
    is_unknown = isinstance(innermost(support), type(constraints.real))
    if not is_unknown or rows.is_floating_point() or rows.dtype == torch.bool:
        return ()
    found = rows.unique()
    is_few = 2 < len(found) <= min(MOST_CATEGORIES, len(rows) // FEWEST_REPEATS)
    return tuple(found.tolist()) if is_few else ()


def kinds_of_condition(rows: Tensor) -> tuple[int, ...]:
    """The values of integers that are a condition where each has a coordinate of its own, else none.

    The first rows need not have all: up to the highest of them, no one is left out.

    Args:
        rows: Rows, with shape `(num_rows, *event_shape)`.
    """
    if not are_labels(rows) or is_image(tuple(rows.shape[1:])):
        return ()
    lowest, highest = int(rows.min()), int(rows.max())
    return tuple(range(highest + 1)) if 0 <= lowest <= highest < MOST_CATEGORIES else _kinds(constraints.real, rows)


def tell_of_numbers(name: str, rows: Tensor) -> None:
    """Warn of a condition of integers that is seen as numbers alone.

    Args:
        name: Its name.
        rows: The first rows, with shape `(num_rows, *event_shape)`.
    """
    if are_labels(rows) and not is_image(tuple(rows.shape[1:])):
        warnings.warn(
            f"the condition {name!r} has integers from {int(rows.min())} to {int(rows.max())}, too many kinds for a "
            "coordinate each: the discriminator sees numbers. Pass them as floating-point numbers if they are "
            "quantities; of labels, pass one-hot rows, or a discriminator of your own with a LabelEmbedding.",
            UserWarning,
            stacklevel=2,
        )


def _are_corners(rows: Tensor) -> bool:
    """Whether rows of a simplex, with shape `(num_rows, *, k)`, are its corners, as one-hot labels are."""
    return bool((rows.amax(-1) > 1 - CORNER).double().mean() > MOSTLY)
