"""Did it work: rows of all that a fit should match, gathered from an inference without changing it, and measured.

At most 2,000 held-out rows, 500 where rows are long, are compared with as many draws. These are made in minibatches of
the size of the training's, on which a model may rely. Posteriors are judged on 300 simulations with 100 draws each.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import product
from typing import Any, Protocol

import pyro
import torch
from torch import Tensor

from pyro_gan.callbacks.failures import MARCHING, Drift
from pyro_gan.criticism.findings import (
    Finding,
    draws_against_rows,
    finding,
    observations_against_simulations,
    players_against_each_other,
    posterior_against_truth,
)
from pyro_gan.inference.apart import FEWEST_ROWS, SEED, Parts
from pyro_gan.inference.compared import Compared, Pairs, Rows, place_of
from pyro_gan.inference.verdict import Report
from pyro_gan.players.batch import Batch, as_batch, fixed_order, mapped, named, number_of_rows, tensors_of
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.players.exclusive import process_wide
from pyro_gan.players.first_look import kept_buffers, kept_random_state
from pyro_gan.processes import found, quiet
from pyro_gan.training.minibatches import transformed
from pyro_gan.training.samples import Samples

MOST_ROWS, FEWER_ROWS = 2000, 500
"""The most held-out rows that are looked at, where rows are short, and where they are long."""

MOST_TRAINING_ROWS = 20_000
"""The most training rows among which copies are looked for."""

MOST_NUMBERS, MOST_TRAINING_NUMBERS = 400_000, 20_000_000
"""The most numbers in the held-out rows, above which there are fewer of them, and in the training rows."""

NUM_JUDGED = 1000
"""How many rows the discriminator judges."""

NUM_SIMULATIONS, NUM_DRAWS = 300, 100
"""How many simulations a posterior is judged on, and how many draws for each."""

NUM_FOR_REACH = 1000
"""Among how many simulations an observation is ranked."""

SEED_OF_DRAWS = 1_618_033_989
"""The seed of all draws, so that each call has the same answer; one by which nobody has made data, which draws of the
same noise would copy."""

USUAL_SIZE = 128
"""The rows of a minibatch before there has been one."""

STEADY = 0.5
"""The pace, in units of the rate, with which parameters still go on: they have half of their speed left."""


class Checked(Protocol):
    """What is read and asked of an inference."""

    device: torch.device
    discriminator: Discriminator
    drift: Drift | None
    parts: Parts | None

    def draws_are_data(self) -> bool:
        """Whether the model's draws are to be like the data, and not merely what a simulator makes."""

    def compares_alike(self) -> bool:
        """Whether the discriminator's two samples are alike where a fit is perfect."""

    def are_simulations(self, batch: Batch) -> bool:
        """Whether a minibatch holds the latent sites too."""

    def draw(self, batch: Batch) -> Samples:
        """Both samples."""

    def get_ready_to_answer(self, values: Batch) -> None:
        """Before a question, know both players."""

    def last_batch(self) -> Batch | None:
        """The minibatch of the last step."""

    def rows_to_check(self, batch: Batch) -> Compared:
        """Rows of the data's sites, from the data and from the model."""

    def observation_rows(self, observation: Any) -> Batch:
        """Observations as a minibatch."""

    def simulate(self, batch: Batch) -> Pairs | None:
        """Simulations of the model, where it has a guide and can make them."""

    def posterior_draws(self, batch: Batch, num_draws: int) -> Rows:
        """Draws of the guide."""


def check(inference: Checked, held_out: Any, train: Any, observation: Any) -> Report:
    """See whether a fit worked; see :meth:`~pyro_gan.GANInference.check`.

    Args:
        inference: The inference.
        held_out: Rows of the data that it was not trained on; `None` for those of the run.
        train: Rows that it was trained on; `None` for those of the run, if that kept rows apart.
        observation: What is to be asked about.
    """
    rows, seen, number_seen = _data(inference, held_out, train, observation is not None)
    carrier = inference.last_batch() if rows is None else rows
    if carrier is None:  # which _data has refused
        raise ValueError("no step has been taken. Call run first.")
    inference.get_ready_to_answer(next(_chunks(inference, carrier)))
    if rows is not None and inference.draws_are_data() and number_of_rows(rows) < FEWEST_ROWS:
        raise ValueError(
            f"held_out has {number_of_rows(rows)} rows, but draws are compared with at least {FEWEST_ROWS}. Pass more."
        )
    with kept_random_state(inference.device), torch.no_grad(), kept_buffers():
        pyro.set_rng_seed(SEED_OF_DRAWS)
        found = _of_draws(inference, rows, seen) if rows is not None and inference.draws_are_data() else []
        is_different = any(each.problem in ("different", "collapsed") for each in found)
        found = [*_of_movements(inference.drift, found), *found, *_of_reach(inference, rows, carrier, observation)]
        found += _of_posterior(inference, carrier)
        if rows is not None and inference.compares_alike():
            found.append(_of_players(inference, rows, is_different))
    if not found:
        raise ValueError(
            "nothing is known of this fit without held-out rows. Pass some, check(rows), or have a run keep some "
            "apart, run(data, held_out=0.1)."
        )
    basis = "without held-out rows" if rows is None else f"{number_of_rows(rows):,} held-out rows"
    return Report(
        type(inference).__name__, found, f"({basis}, {number_seen:,} training rows)" if seen else f"({basis})"
    )


def report_of_run(inference: Checked, is_shown: bool) -> Report | None:
    """The report at the end of a run that kept rows apart; a run that came to its end is not lost where it fails.

    Args:
        inference: The inference.
        is_shown: Whether to print it; of many processes the first one does, and warns.
    """
    processes = found()
    try:
        with process_wide, quiet(processes):
            report = check(inference, None, None, None)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        text = f"the run has come to its end, but could not be checked: {error} Call check(rows) with rows of your own."
        with quiet(processes):
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        return None
    if is_shown and (processes is None or processes.is_first):
        with suppress(OSError, ValueError):  # a stream that is closed costs no run
            print(report)
    return report


def transformed_parts(parts: Parts, device: torch.device) -> tuple[Batch, Batch]:
    """The held-out rows and the training rows of a run, at most as many as are looked at, as minibatches are given."""
    held_out = transformed(_few(parts.held_out), parts.transform, device)
    return held_out, transformed(_some(parts.train, _most(held_out)), parts.transform, device)


def _data(inference: Checked, held_out: Any, train: Any, is_asked: bool) -> tuple[Batch | None, Batch | None, int]:
    """The held-out rows and the training rows, in random order, where they are known, and the number of the latter."""
    parts, device = inference.parts, inference.device
    if held_out is None and parts is None:
        if not is_asked or inference.last_batch() is None:
            raise ValueError(
                "there are no held-out rows to check by. Pass some, check(rows), or have a run keep some apart, "
                "run(data, held_out=0.1)."
            )
        if train is not None:
            raise ValueError("train is compared with held-out rows, but there are none. Pass check(rows, train=...).")
        return None, None, 0
    seen = None if train is None else as_batch(train, device, "train", is_own=True)
    with kept_random_state(device):  # a transform may draw
        if held_out is None and parts is not None:
            rows, kept = transformed_parts(parts, device)
            number = number_of_rows(parts.train)
        else:
            rows, kept, number = _few(as_batch(held_out, device, "held_out", is_own=True)), None, 0
    if seen is not None:
        kept, number = _some(seen, _most(rows)), number_of_rows(seen)
    return rows, kept, number


def _most(rows: Batch) -> int:
    """Among how many training rows copies are looked for."""
    size = _size(rows)
    return min(MOST_TRAINING_ROWS, max(FEWER_ROWS, MOST_TRAINING_NUMBERS // max(1, size)))


def _size(rows: Batch) -> int:
    """How many numbers a row has."""
    return sum(each[0].numel() for each in tensors_of(rows))


def _few(rows: Batch) -> Batch:
    """As many held-out rows as are looked at."""
    return _some(rows, max(FEWER_ROWS, min(MOST_ROWS, MOST_NUMBERS // max(1, _size(rows)))))


def _some(rows: Batch, most: int) -> Batch:
    """At most so many rows, in an order that is random but always the same."""
    order = fixed_order(number_of_rows(rows), SEED)[:most]
    return mapped(rows, lambda each: each[order.to(each.device)])


def _chunks(inference: Checked, rows: Batch) -> Iterator[Batch]:
    """Minibatches of as many rows as in training; the last is filled up with the first rows again."""
    number, last = number_of_rows(rows), inference.last_batch()
    size = min(number, USUAL_SIZE) if last is None else number_of_rows(last)
    for start in range(0, number, size):
        index = torch.arange(start, start + size, device="cpu") % number
        yield mapped(rows, lambda each, index=index: each[index.to(each.device)])  # type: ignore[misc]


def _of_movements(drift: Drift | None, found: Sequence[Finding]) -> list[Finding]:
    """Whether parameters were still on their way, where a run has watched them."""
    if drift is None:
        return []
    problems = {each.problem for each in found}
    marching = finding(
        "part of its way that a parameter went", drift.part, 0.0, high=MARCHING, problem="drifting", where=drift.name
    )
    if not marching.passed or "different" not in problems or "collapsed" in problems:
        return [marching]
    text, where = "pace of a parameter at the end", drift.steady_name
    return [marching, finding(text, drift.pace, 0.0, high=STEADY, problem="drifting", where=where)]


def _of_draws(inference: Checked, rows: Batch, seen: Batch | None) -> list[Finding]:
    """Whether draws are like held-out rows."""
    compared, number = _gathered(inference, rows), number_of_rows(rows)
    real, fake, given = (_matrix(each, number) for each in compared)
    if not given.shape[1] or len(given) != len(fake):
        given = real[:, :0]
    else:  # rows that were given the same would be known to each other
        half = len(real) // 2
        real, fake = torch.cat([real, given], 1)[:half], torch.cat([fake, given], 1)[half:]
    is_finite = torch.isfinite(fake).all(1)
    if not is_finite.all():
        share = float((~is_finite).double().mean())
        text = "draws that are not finite"
        return [Finding(text, share, "none", False, "", "not finite", math.inf)]
    train = None
    if seen is not None:
        parts = [_matrix(each, number_of_rows(seen)) for each in _of_training(inference, seen)]
        train = torch.cat(parts, 1) if given.shape[1] else parts[0]
    return draws_against_rows(real, fake, _names(compared.real), train, given.shape[1])


def _of_reach(inference: Checked, rows: Batch | None, carrier: Batch, observation: Any) -> list[Finding]:
    """Whether the simulator can have made an observation, or where draws are no data the held-out rows."""
    asked = None if observation is None else inference.observation_rows(observation)
    if asked is None and not inference.draws_are_data() and rows is not None and not inference.are_simulations(rows):
        asked = rows
    if asked is None:
        return []
    parts: list[Rows] = []
    while sum(len(next(iter(part.values()))) for part in parts) < NUM_FOR_REACH:
        parts += [inference.rows_to_check(chunk).fake for chunk in _chunks(inference, carrier)]
    simulations = _matrix({site: torch.cat([part[site] for part in parts]) for site in parts[0]}, NUM_FOR_REACH)
    simulations = simulations[torch.isfinite(simulations).all(1)]
    return [
        observations_against_simulations(_matrix(_gathered(inference, asked).real, number_of_rows(asked)), simulations)
    ]


def _of_posterior(inference: Checked, carrier: Batch) -> list[Finding]:
    """Whether the guide's draws are those of the posterior, on simulations."""
    truths: list[Tensor] = []
    draws: list[Tensor] = []
    observed: list[Tensor] = []
    names: list[str] = []
    is_given = inference.are_simulations(carrier)
    chunks = iter([carrier]) if is_given else _chunks(inference, carrier)
    while (left := NUM_SIMULATIONS - sum(map(len, truths))) > 0:
        chunk = next(chunks, None)
        if chunk is None:
            if is_given:
                break
            chunks = _chunks(inference, carrier)
            continue
        pairs = inference.simulate(chunk)
        if pairs is None:
            return []
        few = mapped(pairs.batch, lambda each, left=left: each[:left])  # type: ignore[misc]
        drawn = inference.posterior_draws(few, NUM_DRAWS)
        truths.append(_matrix(pairs.truth, left))
        observed.append(_matrix(pairs.observed, left))
        draws.append(
            torch.cat(
                [drawn[site].cpu().double().reshape(NUM_DRAWS, number_of_rows(few), -1) for site in pairs.truth], 2
            ).transpose(0, 1)
        )
        names = _names(pairs.truth)
    return _judged(torch.cat(truths), torch.cat(draws), torch.cat(observed), names)


def _judged(truth: Tensor, draws: Tensor, x: Tensor, names: list[str]) -> list[Finding]:
    """What :func:`posterior_against_truth` finds, on what is finite."""
    sets = truth, draws, x
    is_finite = torch.stack([torch.isfinite(each).flatten(1).all(1) for each in sets]).all(0)
    truth, draws, x = (each[is_finite] for each in sets)
    if len(truth) < FEWEST_ROWS:
        raise ValueError(
            f"the guide is judged on at least {FEWEST_ROWS} simulations with finite draws, but there are {len(truth)}. "
            "Pass more simulations as held_out."
        )
    return posterior_against_truth(*_between_whole_numbers(truth, draws), x, names)


def _between_whole_numbers(truth: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """The same, with a number from -1/2 to 1/2 added to each whole one of labels and counts.

    An interval of whole numbers holds more than its level; of numbers spread evenly in between it does not.
    """
    is_whole = (truth == truth.round()).all(0) & (draws == draws.round()).flatten(0, 1).all(0)
    return truth + is_whole * (torch.rand_like(truth) - 0.5), draws + is_whole * (torch.rand_like(draws) - 0.5)


def _of_players(inference: Checked, rows: Batch, is_different: bool) -> Finding:
    """Whether the players are in balance."""
    number, real, fake = min(number_of_rows(rows), NUM_JUDGED), [], []
    for chunk in _chunks(inference, mapped(rows, lambda each: each[:NUM_JUDGED])):
        # Of a simulator, observations need not be distributed as simulations are, which the discriminator sees.
        is_given = inference.draws_are_data() or inference.are_simulations(chunk)
        pairs = None if is_given else inference.simulate(chunk)
        samples = inference.draw(chunk if pairs is None else pairs.batch)
        real.append(inference.discriminator(samples.real).flatten())
        fake.append(inference.discriminator(samples.fake).flatten())
    return players_against_each_other(torch.cat(real)[:number], torch.cat(fake)[:number], is_different)


def _gathered(inference: Checked, rows: Batch) -> Compared:
    """What is compared, of all rows."""
    parts = [inference.rows_to_check(chunk) for chunk in _chunks(inference, rows)]
    real, fake, given = (
        {name: torch.cat([part[name] for part in each]) for name in each[0]} for each in zip(*parts, strict=True)
    )
    return Compared(real, fake, given)


def _of_training(inference: Checked, rows: Batch) -> tuple[Rows, Rows]:
    """The real rows among training rows, and the covariates; the model is run once where they are data as they are."""
    first = next(_chunks(inference, rows))
    compared, elements = inference.rows_to_check(first), dict(named(rows))
    found = [{name: place_of(each, first) for name, each in part.items()} for part in (compared.real, compared.given)]
    if any(place is None for part in found for place in part.values()):
        whole = _gathered(inference, rows)
        return whole.real, whole.given
    real, given = ({name: elements[place] for name, place in part.items()} for part in found)
    return real, given


def _matrix(rows: Rows, most: int) -> Tensor:
    """Rows of several sites beside each other, flattened, in double precision on the host."""
    flat = [
        each[:most].cpu().double().flatten(1) if each.dim() > 1 else each[:most, None].cpu().double()
        for each in rows.values()
    ]
    return torch.cat(flat, 1) if flat else torch.zeros(0, 0, device="cpu")


def _names(rows: Rows) -> list[str]:
    """What the columns of :func:`_matrix` are called."""
    return [
        site + (f"[{', '.join(map(str, place))}]" if place else "")
        for site, each in rows.items()
        for place in product(*map(range, each.shape[1:]))
    ]
