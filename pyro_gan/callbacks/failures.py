"""Telling of the classic failures of adversarial training, once each, with what to try.

They do not show as errors: the losses look as they always do.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.checks import listed
from pyro_gan.training.divergence import numbers_of

LONG = 1000
"""The number of steps for which something must last to be told of."""

FEWEST_STEPS = 500
"""The shortest run that is looked at when it ends."""

WON = 0.99
"""The mean probability of real rows above which, with one below its complement for fake rows, a discriminator wins."""

COLLAPSED = 0.03
"""The part of the data's standard deviation below which draws have collapsed."""

END = 0.01
"""The part of the data's range next to either end of it that counts as the end."""

FEWEST_BETWEEN = 0.5
"""The share of numbers between the ends, over the data's, below which draws have saturated."""

VANISHED = 1e-6
"""The part of its largest norm below which a gradient has vanished."""

NOTHING = 1e-12
"""The norm below which a gradient has vanished from the start."""

NUM_MARKS = 10
"""The number of pieces of a run's second half between which parameters' movements are compared."""

MARCHING = 0.75
"""The part of the way that an optimizer could have gone from which on a parameter marches."""

LARGEST_WATCHED = 4096
"""The size of a parameter up to which it is watched."""


class Drift(NamedTuple):
    """How parameters moved in the second half of a run, in which a rate may fall.

    A number that moves to and fro counts 0, and a parameter as much as at least half of its numbers do.
    """

    name: str
    """The parameter that went most of its way."""
    part: float
    """The part of the way that an optimizer of Adam's kind could have gone, and that it went to the last."""
    steady_name: str
    """The parameter that slowed down least."""
    pace: float
    """How far it went for each unit of the rate in the last quarter, over the quarter before; 1 where it goes on."""


class WarnOfFailures(Callback):
    """Warns of the classic failures, once each in a run.

    The discriminator wins outright for 1,000 steps; the generator's gradient has vanished for as long; and, where a run
    of at least 500 steps has come to its end: draws have collapsed or saturated, or parameters still move in one
    direction.
    """

    drift: Drift | None = None
    """What was found when a run had come to its end."""

    ends_runs = False

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.told: set[str] = set()
        self.first = len(inference.history["step"])
        self.largest_norm = 0.0
        self.vanished_since: int | None = None
        self.ways: list[list[float]] = []
        """How far an optimizer of Adam's kind can have moved a number of each group from each mark to the next: the
        sum of the group's rates."""
        self.way: list[float] = []
        self.drift = None
        self.marks: list[dict[str, Tensor]] = []
        self.marked_at = 0

    def on_step(self, inference: Inference) -> None:
        clock = inference.clock
        start, piece = clock.num_steps // 2, max(1, clock.num_steps // (2 * NUM_MARKS))
        if clock.done > start and inference.optim.optimizer is not None:
            rates = [float(group["lr"]) for group in inference.optim.optimizer.param_groups]
            self.way = [before + rate for before, rate in zip_longest(self.way, rates, fillvalue=0.0)]
        if clock.num_steps >= FEWEST_STEPS and clock.done >= start and (clock.num_left % piece == 0):
            self._mark(inference)
        if clock.num_left == 0 and clock.num_steps >= FEWEST_STEPS:
            self._look_at_draws(inference)
            self._look_at_movements(inference)

    def on_read(self, inference: Inference) -> None:
        self._look_at_probabilities(inference.history)
        self._look_at_gradient(inference)

    def _look_at_probabilities(self, history: Mapping[str, list[float]]) -> None:
        real, fake = (history[name][max(self.first, len(history["step"]) - LONG) :] for name in _PROBABILITIES)
        if len(real) >= LONG and min(real) > WON and max(fake) < 1 - WON:
            self._tell(
                "won",
                f"the discriminator has told real rows from the model's for {LONG} steps, by mean probabilities above "
                f"{WON} and below {1 - WON:.2f}: the generator learns little from it. Use the default loss and "
                "penalties, a penalty of a greater weight, a smaller discriminator, or a lower rate for it (optim_d).",
            )

    def _look_at_gradient(self, inference: Inference) -> None:
        gradients = [leaf.grad for leaf in inference.optim.parameters.values() if leaf.grad is not None]
        if not gradients:
            return
        norm = math.sqrt(sum(float(numbers.square().sum()) for numbers in map(numbers_of, gradients)))
        self.largest_norm = max(self.largest_norm, norm)
        step = inference.clock.step
        if norm > max(VANISHED * self.largest_norm, NOTHING) or not math.isfinite(norm):
            self.vanished_since = None
        elif self.vanished_since is None:
            self.vanished_since = step
        elif step - self.vanished_since >= LONG:
            self._tell(
                "vanished",
                f"the generator's gradient has vanished: for {LONG} steps its norm has been about {norm:.2g}, and its "
                f"largest was {self.largest_norm:.2g}. Use the default loss or NonSaturating(), whose gradient stays "
                "where the discriminator is sure, and a penalty.",
            )

    def _look_at_draws(self, inference: Inference) -> None:
        for site, (real, fake) in inference.compared_rows().items():
            if not (real.is_floating_point() and fake.is_floating_point()) or min(len(real), len(fake)) < 2:
                continue
            spreads, quartiles = map(_deviation, (real, fake)), map(_distance_of_quartiles, (real, fake))
            (spread, of_fake), (between, of_fakes) = spreads, quartiles
            if of_fake < COLLAPSED * spread and (of_fakes < COLLAPSED * between or not between):
                self._tell(
                    "collapsed",
                    f"the model's draws have collapsed: at site {site!r} their standard deviation is {of_fake:.2g}, "
                    f"the data's {spread:.2g}. Use the default loss and penalties, let the model draw more noise, "
                    "or lower the rates (optim, optim_d).",
                )
            elif inference.players()["model"].saturates and _are_apart(*(shares := _between(real, fake))):
                self._tell(
                    "saturated",
                    f"the model's draws have saturated: at site {site!r} {shares[1]:.2g} of their numbers lie between "
                    f"the ends of the range, of the data's {shares[0]:.2g}. Weights behind a sigmoid have grown "
                    "until no gradient comes through. Lower the rates, run for fewer steps, or let the weights decay: "
                    "optim=lambda parameters: torch.optim.AdamW(parameters, lr=0.0005, weight_decay=0.1).",
                )

    def _mark(self, inference: Inference) -> None:
        optimizer = inference.optim.optimizer
        if optimizer is None:
            return
        self.is_adam = type(optimizer).__name__.startswith(("Adam", "NAdam", "RAdam"))
        if self.marks:
            self.ways.append(self.way)
        self.way = []
        self.marks.append(
            {
                name: leaf.detach().clone()
                for name, leaf in inference.optim.parameters.items()
                if leaf.numel() <= LARGEST_WATCHED and leaf.is_floating_point()
            }
        )

    def _look_at_movements(self, inference: Inference) -> None:
        """See whether parameters have gone one way, and to the last most of the way that their optimizer could go."""
        half = NUM_MARKS // 2
        if len(self.ways) < NUM_MARKS:
            return
        late, early = map(_sums, (self.ways[-half:], self.ways[-NUM_MARKS:-half]))
        if not max(map(min, zip(late, early, strict=False)), default=0.0) > 0:
            return
        self.drift = Drift("", 0.0, "", 0.0)
        marching, groups = {}, _groups(inference)
        for name, last in self.marks[-1].items():
            late_way, early_way = (way[groups[name]] if groups[name] < len(way) else 0.0 for way in (late, early))
            if not min(late_way, early_way) > 0:
                continue
            if last.numel() and all(name in mark and mark[name].shape == last.shape for mark in self.marks):
                moves = torch.stack([mark[name] for mark in self.marks]).double().diff(dim=0)
                is_one_way = (moves > 0).all(0) | (moves < 0).all(0)
                gone, before = (piece.sum(0).abs() for piece in (moves[-half:], moves[-NUM_MARKS:-half]))
                part = _of_half(torch.where(is_one_way, gone / late_way, 0.0)) if self.is_adam else 0.0
                pace = _of_half(torch.where(is_one_way, (gone / late_way) / (before / early_way), 0.0))
                self._note(name, part, pace)
                if part > MARCHING:
                    marching[name] = float(moves.sum(0).abs().max())
        if marching:
            self._tell(
                "marching",
                f"parameters still moved in one direction when the run ended: {listed(marching)}, by up to "
                f"{max(marching.values()):.3g} in its second half. Run longer, or give them a higher rate, for example "
                "optim=lambda parameters: torch.optim.Adam(parameters, lr=0.01).",
            )

    def _note(self, name: str, part: float, pace: float) -> None:
        """Keep the parameters that moved most."""
        most = self.drift or Drift("", 0.0, "", 0.0)
        if part > most.part:
            most = most._replace(name=name, part=part)
        if pace > most.pace:
            most = most._replace(steady_name=name, pace=pace)
        self.drift = most

    def _tell(self, what: str, text: str) -> None:
        if what not in self.told:
            self.told.add(what)
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def _sums(ways: Sequence[Sequence[float]]) -> list[float]:
    """The sum of each group's ways; groups appear late."""
    return [sum(each) for each in zip_longest(*ways, fillvalue=0.0)]


def _groups(inference: Inference) -> dict[str, int]:
    """By name, the group of the optimizer that a parameter of the generator's side is in."""
    optimizer = inference.optim.optimizer
    found = (
        {}
        if optimizer is None
        else {leaf: number for number, group in enumerate(optimizer.param_groups) for leaf in group["params"]}
    )
    return {name: found[leaf] for name, leaf in inference.optim.parameters.items()}


_PROBABILITIES = ("real_probability", "fake_probability")


def _of_half(values: Tensor) -> float:
    """The largest number that at least half of the values reach."""
    ordered = values.flatten().sort(descending=True).values
    return float(ordered[(len(ordered) + 1) // 2 - 1])


def _deviation(rows: Tensor) -> float:
    """The root mean square of the features' standard deviations."""
    return float(np.sqrt(np.var(rows.cpu().double().numpy(), 0).mean()))


def _between(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The shares of numbers that are at neither end of the real rows' range, of real rows and draws."""
    low, high = real.min(), real.max()
    margin = END * (high - low)
    at_ends = (((rows - low).abs() <= margin) | ((rows - high).abs() <= margin) for rows in (real, fake))
    of_real, of_fake = (1 - float(each.double().mean()) for each in at_ends)
    return of_real, of_fake


def _are_apart(of_real: float, of_fake: float) -> bool:
    """Whether far fewer numbers of the draws than of the data are between the ends."""
    return of_real > END and of_fake < FEWEST_BETWEEN * of_real


def _distance_of_quartiles(rows: Tensor) -> float:
    """The mean distance between the features' quartiles, which no outlier moves."""
    lower, upper = np.quantile(rows.cpu().double().numpy(), [0.25, 0.75], axis=0)
    return float((upper - lower).mean())
