"""What is told before the first step though it may be meant: settings by which training is known to fail silently."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_gan.checks import listed
from pyro_gan.penalties import PenaltyFunction, SitePenalty
from pyro_gan.players.discriminator import Discriminator

SCALES_APART = 1e4
"""The ratio of two columns' scales from which on a network sees the larger alone."""

SEEN_ALIKE = 1e2
"""The ratio of the logit's changes over two columns' scales up to which it sees both."""

ENOUGH = 1000
"""The number of rows that tell a scale."""


def caution(discriminator: Discriminator, penalties: Sequence[PenaltyFunction], rows: dict[str, Tensor]) -> None:
    """Warn of a discriminator that mixes rows below a penalty of gradients, or sees columns of very different scales.

    Args:
        discriminator: The discriminator, which has been run.
        penalties: The penalties.
        rows: Typical rows by site, each with shape `(num_rows, *event_shape)`.
    """
    rows = {site: values.detach() for site, values in rows.items()}
    of_gradients = [type(given).__name__ for given in penalties if isinstance(given, SitePenalty)]
    if of_gradients and _mixes_rows(discriminator, rows):
        warnings.warn(
            f"{of_gradients[0]} takes the slope of the logit at each row, but in this discriminator a row's logit "
            "depends on the other rows too, as with batch normalization: what is penalized is no slope then, and such "
            "runs often find no mode at all. Use nn.LayerNorm, nn.GroupNorm, spectral_norm or no normalization in the "
            "discriminator.",
            RuntimeWarning,
            stacklevel=2,
        )
    if not hasattr(discriminator.function, "setup") and (text := _scales_apart(discriminator, rows)):
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def warn_of_ignored(names: Sequence[str]) -> None:
    """Warn of conditions that a model takes and makes nothing of.

    Args:
        names: Their names.
    """
    for name in names:
        warnings.warn(
            f"the model ignores its condition {name!r}: what it draws is the same for all of its values, so that draws "
            "can not match it. Use it in the model, such as generator(torch.cat([noise, c], 1)) or, for labels, an "
            "embedding of it; or leave it out of the model's arguments.",
            RuntimeWarning,
            stacklevel=2,
        )


def warn_of_unseen(name: str, unseen: Sequence[int], role: str) -> None:
    """Warn of categories that came after a network had built itself.

    Args:
        name: The condition.
        unseen: The categories.
        role: What has no coordinate for them.
    """
    warnings.warn(
        f"the condition {name!r} holds {listed(unseen)}, but the {role} built itself by first rows that had none of "
        "these: it sees them as numbers alone, where other categories have a coordinate each. Let the first rows "
        "have all of them, as by shuffle=True, pass arrays, or pass one-hot rows, as "
        "torch.nn.functional.one_hot(labels, number).float().",
        RuntimeWarning,
        stacklevel=2,
    )


def _gradients(discriminator: Discriminator, rows: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """By site of floating point, the gradient of the sum of the first rows' logits with respect to all rows."""
    leaves = {site: values.clone().requires_grad_(values.is_floating_point()) for site, values in rows.items()}
    floating = {site: values for site, values in leaves.items() if values.requires_grad}
    with torch.enable_grad():
        total = discriminator(leaves)[:number].sum()
    if not floating or not total.requires_grad:
        return {}
    found = torch.autograd.grad(total, list(floating.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(floating, found, strict=True))


def _mixes_rows(discriminator: Discriminator, rows: dict[str, Tensor]) -> bool:
    """Whether logits of some rows change with others."""
    half = len(next(iter(rows.values()))) // 2
    gradients = _gradients(discriminator, rows, half) if half else {}
    return any(
        bool(gradient[half:].abs().max() > 1e-7 * gradient[:half].abs().max())
        for gradient in gradients.values()
        if gradient.numel()
    )


def _scales_apart(discriminator: Discriminator, rows: dict[str, Tensor]) -> str | None:
    """In words, two columns of scales far apart, of which the logit sees one much less; `None` where there are none."""
    first = {site: values[:ENOUGH] for site, values in rows.items() if values.is_floating_point() and values.numel()}
    if not first:
        return None
    sites, scales = list(first), {site: _scales(values) for site, values in first.items()}
    joined = torch.cat([scales[site].double() for site in sites])
    if not bool((joined > 0).any()):
        return None
    smallest, largest = int(joined.masked_fill(joined <= 0, torch.inf).argmin()), int(joined.argmax())
    if joined[largest] < SCALES_APART * joined[smallest]:
        return None
    gradients = _gradients(discriminator, rows, len(next(iter(rows.values()))))
    if gradients:
        slopes = torch.cat([gradients[site].abs().mean(0).reshape(-1).double() for site in sites])
        seen = slopes * joined
        if 0 < seen[largest] <= SEEN_ALIKE * seen[smallest]:  # it brings them to one scale by itself
            return None
    small, large = (_column(first, index, float(joined[index])) for index in (smallest, largest))
    return (
        f"the discriminator sees {small} beside {large}, of which a network sees the larger alone. Use "
        "AutoDiscriminator, which brings all to one scale, or standardize them: the data with transform=, and the same "
        "sites in the model."
    )


def _scales(rows: Tensor) -> Tensor:
    """The scale of each column, with shape `(num_columns,)`; 0 where it is constant.

    It is the distance of the quartiles or, where the middle half is constant as in the margins of images, the greatest
    distance from the median.
    """
    ordered = rows.reshape(len(rows), -1).sort(0).values
    quarter = len(rows) // 4
    middle = ordered[-1 - quarter] - ordered[quarter]
    median = ordered[len(rows) // 2]
    return torch.where(middle > 0, middle, torch.maximum(ordered[-1] - median, median - ordered[0]))


def _column(rows: dict[str, Tensor], index: int, scale: float) -> str:
    """A column by its number among those of all sites, in words."""
    for site, values in rows.items():
        size = values[0].numel()
        if index < size:
            place = [int(number) for number in torch.unravel_index(torch.tensor(index), values.shape[1:])]
            at = str(place) if place else ""
            return f"site {site!r}{at} with a scale of about {scale:.0e}"
        index -= size
    return "a site"
