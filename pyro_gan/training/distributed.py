"""A step of many processes: one start, noise of their own, one average of gradients, and one end.

Each process takes the same step on rows and noise of its own. Between gradients and update the gradients of a player
are averaged, weighted by the rows of the minibatches, as one tensor; losses and logits travel along with them. So all
processes make the same update, and their parameters stay the same to the last bit.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from pyro_gan.players.batch import Batch, concatenated, mapped, resized, tensors_of
from pyro_gan.players.player import Player
from pyro_gan.processes import Processes
from pyro_gan.training.noise import separate_noise
from pyro_gan.training.step import Gradients


class Together:
    """The processes that take an inference's steps.

    Args:
        processes: They.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.diverged: list[int] = []
        """The ranks whose last gradients were not finite."""
        self._met: list[int] = []
        """The identities of the parameters that were the same on all processes."""
        self._slots: dict[tuple[bool, ...], list[list[int]]] = {}
        """How many rows each process had at first, and how many logits it has room for, by what there is."""

    def meet(self, players: Mapping[str, Player], device: torch.device) -> None:
        """Where parameters are new: see that all processes have the same ones, and give them the first one's values.

        Raises:
            ValueError: A process has others; nothing has changed then.
        """
        met = [id(leaf) for player in players.values() for leaf in player.parameters.values()]
        if met == self._met:
            return
        tensors = _tensors(players)
        self._check(tensors)
        share(self.processes, tensors.values())
        separate_noise(self.processes, device)
        self._met = met

    def many(self, many: Callable[[], Batch | None] | None, batch: Batch) -> Callable[[], Batch | None]:
        """What gives rows from all over the data: where they are not at hand, the first minibatches of all processes.

        Args:
            many: What gives them where they are.
            batch: This process's first minibatch.
        """

        def gathered() -> Batch | None:
            there = None if many is None else many()
            if there is not None:
                return there
            return joined(self.processes, batch)

        return gathered

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuse parameters that are others than those of the first process.

        Raises:
            ValueError: There are some, on whichever process; all of them raise it.
        """
        described = {name: (list(tensor.shape), str(tensor.dtype)) for name, tensor in tensors.items()}
        first, *others = self.processes.gathered(described)
        for rank, other in enumerate(others, 1):
            names = [name for name in (*first, *other) if first.get(name) != other.get(name)]
            if names:
                here, there = (_described(each.get(names[0])) for each in (first, other))
                raise ValueError(
                    f"the processes have other networks: {names[0]} {here} on rank 0, and {there} on rank {rank}. Have "
                    "each process build the same; they may differ in their numbers, which rank 0 gives to all."
                )

    def average(self, found: Gradients, num_rows: int, leaves: Mapping[str, Tensor]) -> Gradients:
        """The mean of all processes' gradients, losses and penalties, and the logits of all.

        Args:
            found: Those of this process.
            num_rows: The rows of its minibatch, by which it counts.
            leaves: The player's parameters by name, of which an update may use only some.
        """
        leaves = dict(sorted({**leaves, **found.parameters}.items()))
        own = {name: value for name, value in zip(found.parameters, found.values, strict=True) if value is not None}
        there = (found.penalty is not None, found.real_logits is not None)
        slots = self._slots.get(there)
        if slots is None:
            sizes = [num_rows, *[len(logits) for logits in _logits(found)]]
            slots = self._slots[there] = self.processes.gathered(sizes)
        flat, lengths = self._packed(found, own, leaves, slots)
        gradient, numbers, weight, is_used, checks, *logits = flat.split(lengths)
        checks[self.processes.rank] = numbers[0]  # NaN and infinity stay in sums
        checks[self.processes.size + self.processes.rank] = gradient.sum() + numbers.sum()
        unit = 2 ** (slots[0][0].bit_length() - 1)  # by a power of two all is divided again without any rounding
        if num_rows != unit:
            for each in (gradient, numbers, weight):
                each.mul_(num_rows / unit)
        self.processes.add(flat)
        for each in (gradient, numbers):
            each.div_(weight)
        self._note_diverged(checks)
        slices = gradient.split([leaf.numel() for leaf in leaves.values()])
        # Whether the others use what this one does not is worth waiting for; else all of it is used.
        used = is_used.tolist() if len(own) < len(leaves) else [1.0] * len(leaves)
        kept = [
            (name, leaf, part.view_as(leaf).to(leaf.dtype) if is_used else None)
            for (name, leaf), part, is_used in zip(leaves.items(), slices, used, strict=True)
            if is_used or name in found.parameters
        ]
        return Gradients(
            {name: leaf for name, leaf, _ in kept},
            tuple([value for *_, value in kept]),
            numbers[0].to(found.loss.dtype),
            None if found.penalty is None else numbers[1].to(found.penalty.dtype),
            *[each.to(one.dtype) for each, one in zip(logits, _logits(found), strict=True)],
        )

    def _packed(
        self, found: Gradients, own: Mapping[str, Tensor], leaves: Mapping[str, Tensor], slots: list[list[int]]
    ) -> tuple[Tensor, list[int]]:
        """One tensor of all that travels, and the lengths of its parts.

        They are the gradient, the loss and the penalty, a weight of 1, whether each parameter is used, two checks for
        each process, and the logits of all.
        """
        parts = [(own[name].to_dense() if name in own else torch.zeros_like(leaf)) for name, leaf in leaves.items()]
        dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
        numbers = [found.loss, found.loss.new_zeros(()) if found.penalty is None else found.penalty]
        logits = _in_slots(found, slots, self.processes.rank, dtype)
        rest = torch.tensor(
            [1.0, *[float(name in own) for name in leaves], *[0.0] * (2 * self.processes.size)],
            dtype=dtype,
            device=found.loss.device,
        )
        flat = torch.cat([*[part.detach().reshape(-1).to(dtype) for part in (*parts, *numbers)], rest, *logits])
        sizes = (sum(part.numel() for part in parts), len(numbers), 1, len(leaves), 2 * self.processes.size)
        return flat, [*sizes, *map(len, logits)]

    def _note_diverged(self, checks: Tensor) -> None:
        """Note whose loss is not finite or, where that tells nothing, whose gradient: sums over all carry it to others.

        A device is not waited for.
        """
        if checks.device.type == "cpu":
            by_loss, by_all = (
                [rank for rank, check in enumerate(each) if not math.isfinite(check)]
                for each in checks.view(2, -1).tolist()
            )
            self.diverged = by_loss or by_all


def share(processes: Processes, tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have on the first process, in one message for each type.

    Args:
        processes: All of them.
        tensors: The same ones on each.
    """
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.dtype, []).append(tensor.detach())
    with torch.no_grad():
        for alike in by_type.values():
            values = torch.cat([tensor.reshape(-1) for tensor in alike])
            values = values.byte() if values.dtype == torch.bool else values  # of which gloo knows nothing
            processes.broadcast(values)
            for tensor, value in zip(alike, values.split([each.numel() for each in alike]), strict=True):
                tensor.copy_(value.view_as(tensor))


def share_buffers(processes: Processes, players: Mapping[str, Player]) -> None:
    """Give batch statistics, which each process takes of its own rows, the values that they have on the first one."""
    buffers = {id(buffer): buffer for player in players.values() for buffer in player.buffers()}
    share(processes, [buffer for buffer in buffers.values() if not is_lazy(buffer)])


def _tensors(players: Mapping[str, Player]) -> dict[str, Tensor]:
    """All parameters and buffers of players, each once, by names that are the same on all processes."""
    every: dict[str, Tensor] = {}
    for role, player in players.items():
        every |= {f"the {role}'s parameter {name!r}": leaf for name, leaf in player.parameters.items()}
        for number, module in enumerate(player.modules):
            parts = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
            names = {name: f"{name!r} of the {role}'s module {number} ({type(module).__name__})" for name in parts}
            every |= {names[name]: tensor for name, tensor in parts.items()}
    once = {id(tensor): name for name, tensor in reversed(every.items()) if not is_lazy(tensor)}
    return {name: tensor for name, tensor in sorted(every.items()) if once.get(id(tensor)) == name}


def _described(found: tuple[list[int], str] | None) -> str:
    return "is missing" if found is None else f"has shape {tuple(found[0])} and type {found[1].removeprefix('torch.')}"


def _logits(found: Gradients) -> list[Tensor]:
    return [logits for logits in (found.real_logits, found.fake_logits) if logits is not None]


def _in_slots(found: Gradients, slots: list[list[int]], rank: int, dtype: torch.dtype) -> list[Tensor]:
    """The logits at the place of this process among those of all, which are 0; of another number cut or repeated."""
    parts = []
    for number, logits in enumerate(_logits(found)):
        sizes = [each[number] for _, *each in slots]
        before, after = sum(sizes[:rank]), sum(sizes[rank + 1 :])
        values = resized(logits.detach(), sizes[rank]).to(dtype)
        parts.append(torch.cat([values.new_zeros(before), values, values.new_zeros(after)]))
    return parts


def joined(processes: Processes, batch: Batch) -> Batch:
    """The rows of all processes' minibatches, one process after the other; all of them come here."""
    device = next(iter(tensors_of(batch))).device
    every = concatenated(processes.gathered(mapped(batch, Tensor.cpu)))
    return mapped(every, lambda rows: rows.to(device))
