"""Whether what is drawn lies anywhere near what it is to become like, before the first step.

An optimizer moves each weight by its rate whatever the data's unit. A network of standard initialization gives numbers
of about 1, and would spend its run on the way to thousands.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gan.penalties.scales import FEWEST_PIXELS, are_in_one_unit
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.players.first_look import kept_buffers, kept_random_state
from pyro_gan.recipes import default_rate
from pyro_gan.training.samples import Samples

FAR = 100.0
"""How many of its own deviations a feature may be from its target, and how many times wider than that."""

NARROW = 0.1
"""The deviation below which a feature counts as so wide: a narrow one grows soon, and the rate knows no unit."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

MOST_AT_ONCE = 0.5
"""How far one step may move all units of a first layer; their sums are of about 1."""

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


@torch.no_grad()
def warn_of_offset(discriminator: Discriminator, real: dict[str, Tensor]) -> None:
    """Warn where a step of the default rate moves all units of a fully connected first layer at once, and far.

    Adam moves each weight by the rate, whichever way the rows' means call for, so that each unit moves by the rate
    times the sum of the means' sizes. And by standard initialization nearly all units are on, or off, for all rows.

    Args:
        discriminator: The discriminator, which has been run and is trained by the default optimizer.
        real: Real rows by site.
    """
    if any(isinstance(module, BATCH_NORMS) for module in discriminator.modules):  # they take such a shift away
        return
    for site, rows in real.items():
        if not rows.is_floating_point() or len(rows) < FEWEST_ROWS or rows[0].numel() < FEWEST_PIXELS:
            continue
        flat = _rows(rows)
        means, varying = flat.mean(0), flat.var(0, correction=0).sum()
        at_once = default_rate(0.0) * float(means.abs().sum())
        if at_once < MOST_AT_ONCE or means.square().sum() < varying or not _is_read_as_it_is(discriminator, real, flat):
            continue
        warnings.warn(
            f"site {site!r} has {flat.shape[1]} features that lie around {float(means.mean()):.3g}, far from 0 beside "
            f"their deviations of about {float((varying / flat.shape[1]).sqrt()):.3g}: a step of the default rate "
            f"moves all units of the discriminator's first layer by {at_once:.2g} at once, and draws stay coarse. "
            "Scale the data so that most of them are near 0, subtract their mean in the discriminator, leave it out, "
            "so that it builds itself, or lower the rates (optim, optim_d).",
            RuntimeWarning,
            stacklevel=2,
        )


def _is_read_as_it_is(discriminator: Discriminator, real: dict[str, Tensor], flat: Tensor) -> bool:
    """Whether a linear layer that is trained has inputs that begin or end with rows as they are."""
    found = []

    def see(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        read = inputs[0] if inputs and isinstance(module, nn.Linear) and module.weight.requires_grad else None
        if isinstance(read, Tensor) and read.dim() == 2:
            parts = (read[:, : flat.shape[1]], read[:, -flat.shape[1] :])
            found.append(any(part.shape == flat.shape and torch.equal(part.double(), flat) for part in parts))

    handles = [module.register_forward_pre_hook(see) for module in discriminator.modules]
    try:
        with kept_buffers(*discriminator.modules), kept_random_state(discriminator.device):
            discriminator(real)
    finally:
        for handle in handles:
            handle.remove()
    return any(found)


def _rows(rows: Tensor) -> Tensor:
    return rows.detach().reshape(len(rows), -1).double()


def _place_and_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Each feature's median and half the distance of its quartiles; where these agree, its standard deviation."""
    lower, median, upper = (rows.sort(0).values[int(part * (len(rows) - 1))] for part in (0.25, 0.5, 0.75))
    half = (upper - lower) / 2
    return median, torch.where(half > 0, half, rows.std(0, correction=0))
