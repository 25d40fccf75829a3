"""Many simulations of a model, drawn by several processes, in memory or in a folder.

They are drawn in shards, each from a seed of its own that hangs on the shard's number alone. So it does not matter
which process draws which, in what order, or whether some were drawn before a kill. Where processes train together the
first one has them drawn, for all.
"""

import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from os import PathLike
from typing import Any, get_args

import pyro
import torch
from torch import Tensor

from pyro_gan.callbacks.progress import has_watchers, tqdm
from pyro_gan.checks import positive_integer, shown
from pyro_gan.processes import Processes, found, quiet
from pyro_gan.simulations.drawing import Shard, Simulator
from pyro_gan.simulations.shards import Count, Plan, ShardFolder
from pyro_gan.training.failing import one_for_all
from pyro_gan.training.minibatches import Invalid

MOST_ROWS = {True: 1000, False: 100}
"""The simulations of a shard, where a run of the model draws many and where it draws one."""

FEWEST_SHARDS = 16
"""So many shards there are at least, for as many processes to have something to do."""


class Simulations(dict[str, Tensor]):
    """Simulations as data: a mapping from each site to its rows, with shape `(num_rows, *event_shape)`.

    Args:
        valid: The rows of those that are finite, by site.
        failed: Those of simulations that hold NaN or infinity, kept apart.
        count: How many there are, and how many failed.
        seed: From which they were drawn.
    """

    def __init__(self, valid: dict[str, Tensor], failed: dict[str, Tensor], count: Count, seed: int) -> None:
        super().__init__(valid)
        self.failed = failed
        """The rows by site of simulations that hold NaN or infinity; none of those that raised."""
        self.num_not_finite = count.not_finite
        """How many hold NaN or infinity."""
        self.num_raised = count.raised
        """How many raised an error; those had no rows."""
        self.num_failed = count.not_finite + count.raised
        """How many failed in all."""
        self.error = count.error
        """The first error that was raised, in words."""
        self.seed = seed
        """From which they were drawn."""


def simulate(
    model: Callable[..., Any],
    num_simulations: int,
    num_workers: int = 1,
    folder: str | PathLike[str] | None = None,
    *,
    sites: Sequence[str] | None = None,
    invalid: Invalid = "raise",
    seed: int | None = None,
    shard_size: int | None = None,
    progress: bool = True,
) -> Simulations:
    """Draw simulations of a model, its prior included, as data for `run`.

    A model with a parameter `batch_size` draws many rows a run, and so does one whose sites all lie in a plate; of any
    other, a run is one simulation. Observed sites are drawn too. A seed gives the same simulations whatever the number
    of processes. These are joblib's, which keeps them for some minutes for later calls. A run of many rows that raises
    is drawn again row by row.

    Under torchrun every process calls it. The first one has the simulations drawn, the others wait for as long as it
    lives, and all have the same; a folder must be one that each of them can read.

    Args:
        model: A Pyro model. It takes no data; parameters in Pyro's store are those that it has now.
        num_simulations: How many to draw, those that fail included.
        num_workers: The number of processes; -1 for one a core. With 1, this one draws.
        folder: Where to write them in shards as they come; the same call goes on there after a kill. They are then
            mapped into memory, so that there may be more than fit. Without it they are in memory alone.
        sites: The sites to keep; by default all random variables and deterministic sites that are not auxiliary.
        invalid: `"raise"` to end with an error where a simulation raises or holds NaN or infinity; `"exclude"` to keep
            such apart and tell how many there are.
        seed: An integer of at least 0 and below 2³²; by default drawn from torch's generator, or that of the folder.
        shard_size: The simulations of a shard; by default at most 1,000, or 100 where a run is one simulation. On this
            hangs which simulations a seed gives.
        progress: Whether to show how many there are.

    Returns:
        A mapping by site of tensors with shape `(num_simulations, *event_shape)`, without the rows that failed.

    Raises:
        TypeError, ValueError: An argument does not fit, the folder is of other simulations, simulations failed with
            `invalid="raise"`, or all of them did. Shards that have been written stay.

    Example:
        >>> import pyro.distributions as dist
        >>> def model(batch_size):
        ...     with pyro.plate("data", batch_size):
        ...         rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        ...         pyro.sample("x", dist.Poisson(rate.unsqueeze(-1)).expand([batch_size, 3]).to_event(1))
        >>> simulations = simulate(model, 1000, seed=0, progress=False)
        >>> {site: tuple(rows.shape) for site, rows in simulations.items()}
        {'rate': (1000,), 'x': (1000, 3)}
    """
    num_simulations = positive_integer("num_simulations", num_simulations)
    num_workers = num_workers if num_workers == -1 else positive_integer("num_workers", num_workers)
    if invalid not in get_args(Invalid):
        raise ValueError(f"invalid must be 'raise' or 'exclude', but is {shown(invalid)}.")
    if shard_size is not None:
        shard_size = positive_integer("shard_size", shard_size)
    place, sites = None if folder is None else ShardFolder(folder), _checked_sites(sites)
    drawn = int(torch.randint(2**31, ()))  # in any case, so that what follows is the same where a folder is read

    def make() -> Simulations:
        of_all, may_fail = _seed(seed, drawn, place), invalid == "exclude"
        simulator = Simulator(model, sites, Plan(1, 1, of_all).seed_of(-1), may_fail)
        size = shard_size or min(MOST_ROWS[simulator.draws_rows], -(-num_simulations // FEWEST_SHARDS))
        plan = Plan(num_simulations, size, of_all)
        if place is None:
            return _made(simulator, plan, num_workers, may_fail, progress)
        return _written(simulator, plan, num_workers, may_fail, progress, place)

    processes = found()
    made = make() if processes is None else _made_by_first(processes, make, place)
    with quiet(processes):
        _tell(made, num_simulations)
    return made


def _made_by_first(processes: Processes, make: Callable[[], Simulations], folder: ShardFolder | None) -> Simulations:
    """The simulations that the first process makes; the others are sent them, or read them where they are in a folder.

    Args:
        processes: All of them.
        make: Makes them.
        folder: Where to, or `None`.

    Raises:
        ProcessFailed: The first process has failed; errors that it raises are raised by all.
        ValueError: A process does not find them in the folder.
    """
    with one_for_all(processes, lambda: "in simulate"):
        made = processes.from_first(lambda: make() if folder is None else make().seed)
        if folder is None:
            return made
        missing = processes.gathered(str(folder.path) if folder.counts() is None else None)
        if others := [(rank, path) for rank, path in enumerate(missing) if path is not None]:
            raise ValueError(
                f"rank {others[0][0]} does not find the simulations that rank 0 has written in its "
                f"folder={others[0][1]!r}. Name a folder that all processes can read."
            )
        return _read(folder, made)


def _made(simulator: Simulator, plan: Plan, num_workers: int, may_fail: bool, progress: bool) -> Simulations:
    """Simulations in memory."""
    shards = dict[int, Shard]()
    with _Told(plan.num_simulations, 0, progress) as told:
        for shard in _drawn(simulator, plan, range(plan.num_shards), num_workers, may_fail):
            _check(shard, may_fail)
            shards[shard.number] = shard
            told.more(Count.of(shard).total)
    every = [shards[number] for number in sorted(shards)]
    count = sum(map(Count.of, every), Count())
    valid, failed = ([getattr(shard, kind) for shard in every if getattr(shard, kind)] for kind in ("valid", "failed"))
    return Simulations(_joined(valid), _joined(failed), count, plan.seed)


def _written(
    simulator: Simulator, plan: Plan, num_workers: int, may_fail: bool, progress: bool, folder: ShardFolder
) -> Simulations:
    """Simulations in a folder, those that are missing drawn."""
    folder.check(plan)
    folder.begin(plan, simulator)
    if folder.counts() is None:
        missing, there = folder.missing(plan)
        with _Told(plan.num_simulations, there.total, progress) as told:
            for shard in _drawn(simulator, plan, missing, num_workers, may_fail):
                _check(shard, may_fail)
                folder.write(shard)
                told.more(Count.of(shard).total)
        folder.finish(plan)
    count = folder.counts() or Count()
    if count.total > count.valid and not may_fail:
        raise _failed(count, f"simulations in {str(folder.path)!r}")
    return _read(folder, plan.seed)


def _read(folder: ShardFolder, seed: int) -> Simulations:
    """The simulations of a folder that is complete."""
    return Simulations(folder.rows(), folder.rows("failed"), folder.counts() or Count(), seed)


def _drawn(
    simulator: Simulator, plan: Plan, numbers: Collection[int], num_workers: int, may_fail: bool
) -> Iterator[Shard]:
    """Shards as they come, in whatever order."""
    tasks = [(number, plan.rows_of(number), plan.seed_of(number), may_fail) for number in numbers]
    if num_workers == 1 or len(tasks) < 2:
        yield from (simulator.draw(*task) for task in tasks)
        return
    from joblib import Parallel, delayed  # a worker starts in seconds; nothing else here needs it

    parcel = _packed(simulator)
    workers = Parallel(n_jobs=num_workers, return_as="generator_unordered", pre_dispatch="2*n_jobs", batch_size=1)
    yield from workers(delayed(_draw_elsewhere)(parcel, *task) for task in tasks)


def _packed(simulator: Simulator) -> bytes:
    """A simulator and the parameters in Pyro's store, for another process.

    Raises:
        ValueError: The model holds something that can not be sent.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps((simulator, pyro.get_param_store().get_state()))
    except Exception as error:
        raise ValueError(
            f"the model can not be sent to other processes ({type(error).__name__}: {error}). Make what it holds "
            "within the model, or pass num_workers=1."
        ) from error


@lru_cache(maxsize=1)
def _unpacked(parcel: bytes) -> Simulator:
    """The simulator of a parcel; its parameters are in the store of this process."""
    import cloudpickle

    simulator, parameters = cloudpickle.loads(parcel)
    pyro.get_param_store().set_state(parameters)
    return simulator


def _draw_elsewhere(parcel: bytes, *task: Any) -> Shard:
    return _unpacked(parcel).draw(*task)


def _checked_sites(sites: Sequence[str] | None) -> Sequence[str] | None:
    if sites is not None and (isinstance(sites, str) or not sites or not all(isinstance(each, str) for each in sites)):
        raise TypeError(f"sites must be a list of names, but is {shown(sites)}.")
    return sites


def _seed(seed: int | None, drawn: int, folder: ShardFolder | None) -> int:
    """The seed that is asked for, that of the folder, or a new one."""
    if seed is None:
        begun = None if folder is None else folder.plan()
        return drawn if begun is None else begun.seed
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer of at least 0 and below 2**32, but is {shown(seed)}.")
    return seed


def _check(shard: Shard, may_fail: bool) -> None:
    """Refuse a shard with failures, where there are to be none."""
    count = Count.of(shard)
    if count.total > count.valid and not may_fail:
        raise _failed(count, f"simulations of shard {shard.number} (seed {shard.seed})")


def _failed(count: Count, which: str) -> ValueError:
    return ValueError(
        f"{count.total - count.valid:,} of {count.total:,} {which} {_how(count)}. Mend the simulator, or pass "
        "invalid='exclude' to leave such out."
    )


def _how(count: Count) -> str:
    parts = [f"{count.not_finite:,} hold NaN or infinity"] if count.not_finite else []
    parts += [f"{count.raised:,} raised ({count.error})"] if count.raised else []
    return "failed: " + ", ".join(parts)


def _tell(made: Simulations, num_simulations: int) -> None:
    """Tell of failures.

    Raises:
        ValueError: There is nothing else.
    """
    count = Count(num_simulations - made.num_failed, made.num_not_finite, made.num_raised, made.error)
    if not count.valid:
        raise ValueError(f"all {num_simulations:,} simulations {_how(count)}. Check the simulator.")
    if made.num_failed:
        warnings.warn(
            f"left out {made.num_failed:,} of {num_simulations:,} simulations that {_how(count)}. What is learned from "
            "the others is conditional on success.",
            RuntimeWarning,
            stacklevel=3,
        )


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {site: torch.cat([part[site] for part in parts]) for site in parts[0]} if parts else {}


class _Told:
    """Tells how many simulations there are: a bar where somebody watches, else a line each tenth."""

    def __init__(self, total: int, done: int, progress: bool) -> None:
        self.total, self.done, self.progress = total, done, progress
        has_bar = progress and has_watchers()
        self.bar = tqdm(total=total, initial=done, unit="simulation", dynamic_ncols=True) if has_bar else None

    def __enter__(self) -> "_Told":
        return self

    def more(self, number: int) -> None:
        """Tell of so many more."""
        before, self.done = self.done, self.done + number
        if self.bar is not None:
            self.bar.update(number)
        elif self.progress and (self.done == self.total or self.done * 10 // self.total > before * 10 // self.total):
            print(f"{self.done:,} of {self.total:,} simulations", file=sys.stderr)

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
