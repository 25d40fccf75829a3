"""Whether what is drawn lies anywhere near what it is to become like, before the first step.

An optimizer moves each weight by its rate whatever the data's unit. A network of standard initialization gives numbers
of about 1, and would spend its run on the way to thousands.
"""

import warnings

import torch
from torch import Tensor

from pyro_gan.penalties.scales import FEWEST_PIXELS, are_in_one_unit
from pyro_gan.training.samples import Samples

FAR = 100.0
"""How many of its own deviations a feature may be from its target, and how many times wider than that."""

NARROW = 0.1
"""The deviation below which a feature counts as so wide: a narrow one grows soon, and the rate knows no unit."""

FEWEST_ROWS = 20
"""The number of rows up to which nothing is said of their place and scale."""


def warn_of_units(samples: Samples) -> None:
    """Warn where rows that are trained have another place or scale, by far, than the rows that they are compared with.

    Args:
        samples: What the generator's side draws before its first step, with graphs, and what it is compared with.
    """
    for site, fake in samples.fake.items():
        real = samples.real[site]
        if not (fake.is_floating_point() and real.is_floating_point()) or fake.requires_grad == real.requires_grad:
            continue
        moved, target = (fake, real) if fake.requires_grad else (real, fake)
        if min(len(moved), len(target)) >= FEWEST_ROWS:
            _warn(site, "model's draws" if moved is fake else "guide's draws", *map(_rows, (moved, target)))


def _warn(site: str, what: str, moved: Tensor, target: Tensor) -> None:
    (place, scale), (target_place, target_scale) = map(_place_and_scale, (moved, target))
    if target.shape[1] >= FEWEST_PIXELS and are_in_one_unit(target):  # a pixel at the margin is hardly ever lit
        scale, target_scale = (each.square().mean().sqrt().expand_as(each) for each in (scale, target_scale))
    varies = (scale > 0) & (target_scale > 0)
    away = (target_place - place).abs() + target_scale
    is_far = varies & ((away > FAR * scale.clamp(min=NARROW)) | (target_scale < scale / FAR))
    if not is_far.any():
        return
    feature = int(torch.where(is_far, (away / scale).log().abs(), -1.0).argmax())
    numbers = (float(each[feature]) for each in (place, scale, target_place, target_scale))
    which = f"feature {feature} of site {site!r}" if len(is_far) > 1 else f"site {site!r}"
    warnings.warn(
        "the {} have another place or scale than what they are to become like: {} is drawn as {:.3g} ± {:.3g}, but "
        "shall be {:.3g} ± {:.3g}. Weights get there by steps of a learning rate that knows no unit. Let the network "
        "give standardized numbers, by pyro_gan.Standardized(network, rows), or start plain numbers nearby; or "
        "standardize the data, by transform=.".format(what, which, *numbers),
        RuntimeWarning,
        stacklevel=2,
    )


def _rows(rows: Tensor) -> Tensor:
    return rows.detach().reshape(len(rows), -1).double()


def _place_and_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Each feature's median and half the distance of its quartiles; where these agree, its standard deviation."""
    lower, median, upper = (rows.sort(0).values[int(part * (len(rows) - 1))] for part in (0.25, 0.5, 0.75))
    half = (upper - lower) / 2
    return median, torch.where(half > 0, half, rows.std(0, correction=0))
