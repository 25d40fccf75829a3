"""Simulations in a folder: shards as they come, and one file a site when all are there, mapped into memory.

A shard is written whole or not at all, under its number and with its seed, so that after a kill a folder tells which
are missing. When none is, their rows are written to one file a site, which is what is read from then on, and the shards
are removed. A file that names what was asked for is the first to be written, and the one that counts them the last.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import shown
from pyro_gan.simulations.drawing import Shard, Simulator
from pyro_gan.training.checkpoint import read_file, write_file


class Plan(NamedTuple):
    """What is to be drawn."""

    num_simulations: int
    shard_size: int
    seed: int

    @property
    def num_shards(self) -> int:
        """How many shards there are in all."""
        return -(-self.num_simulations // self.shard_size)

    def rows_of(self, number: int) -> int:
        """How many simulations a shard has."""
        return min(self.shard_size, self.num_simulations - number * self.shard_size)

    def seed_of(self, number: int) -> int:
        """The seed of a shard, of which no other of the folder has the same: generators take 32 bits."""
        return (int(np.random.SeedSequence(self.seed).generate_state(1)[0]) + 1 + number) % 2**32


class Count(NamedTuple):
    """How many simulations there are, and how many failed."""

    valid: int = 0
    not_finite: int = 0
    raised: int = 0
    error: str = ""

    def __add__(self, other: Any) -> "Count":
        return Count(
            self.valid + other.valid,
            self.not_finite + other.not_finite,
            self.raised + other.raised,
            self.error or other.error,
        )

    @property
    def total(self) -> int:
        """How many were drawn."""
        return self.valid + self.not_finite + self.raised

    @classmethod
    def of(cls, shard: Shard) -> "Count":
        """Those of a shard."""
        return cls(_length(shard.valid), _length(shard.failed), shard.num_raised, shard.error)


class ShardFolder:
    """A folder of simulations.

    Args:
        path: The folder; it is made if missing.

    Raises:
        TypeError, ValueError: `path` is no folder's.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        if not isinstance(path, str | PathLike):
            raise TypeError(f"folder must be a folder's path, but is {shown(path)} ({type(path).__name__}).")
        if not str(path):
            raise ValueError("folder must be a folder's path, but is ''. Name a folder.")
        self.path = Path(path).resolve()
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"folder={str(path)!r} is a file, but a folder is expected. Name another.")

    def plan(self) -> Plan | None:
        """What the folder was begun for, or `None`."""
        if not self._begun.exists():
            return None
        begun = read_file(self._begun)
        return Plan(begun["num_simulations"], begun["shard_size"], begun["seed"])

    def check(self, plan: Plan) -> None:
        """Refuse a folder of other simulations.

        Raises:
            ValueError: It was begun for another number, or with another seed.
        """
        if (begun := self.plan()) is None:
            others = [each.name for each in self.path.iterdir()] if self.path.exists() else []
            if others:
                raise ValueError(
                    f"folder={str(self.path)!r} is not empty ({shown(sorted(others)[0])}), and holds no simulations. "
                    "Name another, or an empty one."
                )
            return
        for name, before, now in zip(plan._fields, begun, plan, strict=True):
            if before != now:
                raise ValueError(
                    f"folder={str(self.path)!r} holds simulations with {name}={before}, but this is {now}. Pass "
                    f"{name}={before}, or name another folder."
                )

    def begin(self, plan: Plan, simulator: Simulator) -> None:
        """Note what is to be drawn, and what a look at the model drew; or see that it still draws the same.

        Raises:
            ValueError: Another model has begun this folder.
        """
        first = simulator.first
        if not self._begun.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_file(self._begun, {**plan._asdict(), "first": first})
            return
        before = read_file(self._begun)["first"]
        if list(before) != list(first):
            raise ValueError(
                f"folder={str(self.path)!r} holds simulations of sites {list(before)}, but the model draws "
                f"{list(first)}. Pass the model that began it, or name another folder."
            )
        if others := [site for site in first if not _are_alike(before[site], first[site])]:
            again = Simulator(simulator.model, simulator.sites, plan.seed_of(-1), may_fail=True).first
            if all(_are_alike(again[site], first[site]) for site in others):
                raise ValueError(
                    f"folder={str(self.path)!r} holds simulations of a model that draws site {others[0]!r} otherwise "
                    "than this one from the same seed. Pass the model that began it, or name another folder."
                )

    def missing(self, plan: Plan) -> tuple[list[int], Count]:
        """The numbers of shards that are not there whole, and how many simulations are in those that are."""
        missing, there = list[int](), Count()
        for number in range(plan.num_shards):
            shard = self.read(number)
            if shard is None or Count.of(shard).total != plan.rows_of(number):
                missing.append(number)
            else:
                there += Count.of(shard)
        return missing, there

    def write(self, shard: Shard) -> None:
        """Write a shard, whole or not at all."""
        write_file(self._shard(shard.number), shard._asdict())

    def read(self, number: int) -> Shard | None:
        """A shard, where it is there whole."""
        try:
            return Shard(**read_file(self._shard(number)))
        except (OSError, ValueError, TypeError):
            return None

    def finish(self, plan: Plan) -> None:
        """Write the rows of all shards to one file a site, of which a simulation that failed has none."""
        numbers = range(plan.num_shards)
        counts = sum((Count.of(shard) for shard in self._shards(numbers)), Count())
        self._collect(numbers, "valid", counts.valid)
        self._collect(numbers, "failed", counts.not_finite)
        _write_text(self._complete, json.dumps(counts._asdict()))
        self._clear()

    def counts(self) -> Count | None:
        """How many simulations there are, where all are there."""
        return Count(**json.loads(self._complete.read_text())) if self._complete.exists() else None

    def rows(self, kind: str = "valid") -> dict[str, Tensor]:
        """The rows by site, mapped into memory; what is written to them stays in memory."""
        sites = list(read_file(self._begun)["first"])
        paths = {site: self._site(kind, index) for index, site in enumerate(sites)}
        return {site: _mapped(path) for site, path in paths.items() if path.exists()}

    @property
    def _begun(self) -> Path:
        return self.path / "begun.state"

    @property
    def _complete(self) -> Path:
        return self.path / "complete.json"

    def _shard(self, number: int) -> Path:
        return self.path / f"shard-{number:07d}.state"

    def _site(self, kind: str, index: int) -> Path:
        return self.path / f"{kind}-{index}.npy"  # a site's name may hold what a file's must not

    def _shards(self, numbers: Sequence[int]) -> Iterator[Shard]:
        for number in numbers:
            shard = self.read(number)
            if shard is None:
                raise ValueError(
                    f"shard {number} of folder={str(self.path)!r} has changed while it was used. Call simulate again, "
                    "which draws it anew."
                )
            yield shard

    def _collect(self, numbers: Sequence[int], kind: str, total: int) -> None:
        """Write the rows of all shards one after the other, a file a site, a shard at a time in memory."""
        files: dict[str, Any] = {}
        paths: dict[str, Path] = {}
        for shard in self._shards(numbers):
            for index, (site, rows) in enumerate(getattr(shard, kind).items()):
                if site not in files:
                    paths[site] = self._site(kind, index)
                    files[site] = paths[site].with_suffix(".part").open("wb")
                    array = rows.numpy()
                    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(files[site], {**header, "shape": (total, *array.shape[1:])})
                files[site].write(rows.contiguous().numpy().tobytes())
        for site, file in files.items():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            paths[site].with_suffix(".part").replace(paths[site])

    def _clear(self) -> None:
        for pattern in ("shard-*.state", ".*.part"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)


def _mapped(path: Path) -> Tensor:
    """A file's rows without reading them; a private mapping, since a write to a read-only one ends the process."""
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _write_text(path: Path, text: str) -> None:
    beside = path.with_suffix(".part")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _length(rows: Mapping[str, Tensor]) -> int:
    return len(next(iter(rows.values()))) if rows else 0


def _are_alike(one: Tensor, other: Tensor) -> bool:
    """Whether two draws are the same, but for how another machine rounds."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-5, equal_nan=True)
