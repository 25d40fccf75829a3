"""The discriminator: any callable that gives one logit a row."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from pyro_gan.checks import listed, shown
from pyro_gan.players.devices import is_compiled
from pyro_gan.players.first_look import kept_buffers, kept_random_state, random_states
from pyro_gan.players.graph import ends, leaves
from pyro_gan.players.player import Player, are_written

PROBABILITIES = ("Hardsigmoid", "LogSigmoid", "LogSoftmax", "Sigmoid", "Softmax")
"""How the names of operations begin that give probabilities, or their logarithms."""


class Discriminator(Player):
    """A discriminator callable: an `nn.Module`, a function over one, or a function that registers Pyro parameters.

    Args:
        function: Called with the compared site's rows, with shape :math:`(N, *)`, or, where several sites are
            compared, with the rows of each as keyword arguments by site name. It returns logits with shape
            :math:`(N,)` or :math:`(N, 1)`.
        device: The device to work on.
        move: Whether the modules that the discriminator calls are moved to that device.

    Raises:
        TypeError: The discriminator is not callable.
    """

    def __init__(self, function: Callable[..., Tensor], device: torch.device, move: bool) -> None:
        if not callable(function):
            raise TypeError(
                "discriminator must be a callable that returns one logit a row, such as an nn.Module, "
                f"but is {shown(function)} ({type(function).__name__})."
            )
        super().__init__(function, device, move)
        self._alone: dict[tuple[tuple[nn.Module, bool], ...], bool] = {}
        self._asked: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[str, ...]] = {}
        self._by_position = False
        """Whether it takes the compared site and the conditions in order, as it names its arguments otherwise."""

    def __call__(self, values: dict[str, Tensor]) -> Tensor:
        """The logits of rows.

        Args:
            values: Each compared site's rows, with shape :math:`(N, *)`.

        Returns:
            The logits, with shape :math:`(N,)`.

        Raises:
            TypeError: The discriminator returns no tensor.
            ValueError: It does not return one logit a row.
        """
        if not self.is_known:
            self._first_look(values)
        self._fill_others()
        with self.creating:
            return self._judge(values)

    @property
    def has_coordinates(self) -> bool:
        """Whether the discriminator says in which coordinates its network sees rows, as one that builds itself does."""
        return all(callable(getattr(self.function, name, None)) for name in ("coordinates", "judge"))

    @torch.no_grad()
    def coordinates(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """The coordinates by site in which the network sees rows, with shape `(num_rows, *)`, without a graph."""
        return self._seen_through.coordinates(rows)

    def judge(self, coordinates: dict[str, Tensor]) -> Tensor:
        """The logits of rows given by their coordinates, with shape `(num_rows,)`."""
        with self.creating:
            return self._seen_through.judge(coordinates)

    @property
    def _seen_through(self) -> Any:
        return self.function

    def parts(self) -> "list[tuple[Discriminator, Callable[[dict[str, Tensor]], dict[str, Tensor]]]]":
        """The discriminators whose losses add, and what each is called with, of all rows by name: this one with all."""
        return [(self, lambda rows: rows)]

    def part_for(self, names: Iterable[str]) -> "Discriminator":
        """The one of them that judges rows of these names."""
        del names
        return self

    def check_sees(self, sites: Iterable[str]) -> None:
        """Refuse sites that none of them sees.

        Raises:
            ValueError: There is one.
        """

    def asks_for(self, sites: Iterable[str], conditions: Iterable[str] = ()) -> tuple[str, ...]:
        """The names of what it is to be called with beside the compared sites.

        Args:
            sites: The compared sites.
            conditions: What the model is told of each row.

        Returns:
            What a discriminator that builds itself asks for, all conditions among it; else the arguments which it can
            not do without, as far as Python can tell, and conditions that it takes by name. One that takes a single
            site and as many arguments more as there are conditions is given these in order, whatever it calls them.
        """
        compared, told = tuple(sites), tuple(conditions)
        if (compared, told) not in self._asked:
            of_its_own = getattr(self.function, "given", None)
            if callable(of_its_own):
                names = (*of_its_own(compared), *told)
            else:
                names = (*_needed(self.function), *(name for name in told if name in _taken(self.function)))
                if len(compared) == 1 and compared[0] not in names:  # it takes the only site by position
                    self._by_position = bool(told) and len(_needed(self.function)) == 1 + len(told)
                    names = told if self._by_position else ()
            self._asked[compared, told] = tuple(name for name in dict.fromkeys(names) if name not in compared)
        return self._asked[compared, told]

    def masks(self, sites: Iterable[str]) -> tuple[str, ...]:
        """The names of masks of sites which a discriminator that builds itself is to be called with."""
        of_its_own = getattr(self.function, "given", None)
        return tuple(of_its_own(tuple(sites))) if callable(of_its_own) else ()

    def set_up(self, real: dict[str, Tensor], supports: dict[str, Constraint]) -> None:
        """Before the first run: see that the sites fit, and let a discriminator that builds itself do so.

        Args:
            real: The first minibatch's real rows by site.
            supports: Each site's support in the model.

        Raises:
            ValueError: The discriminator does not take the compared sites by name.
        """
        if not self._by_position:
            _check_takes(self.function, tuple(real))
        if not self.is_known and hasattr(self.function, "setup"):
            self.function.setup(supports, real)

    def check_differentiable_twice(self, reader: str) -> None:
        """Refuse a network that the user compiled where gradients of its gradients are needed.

        Args:
            reader: What needs them, for the message.

        Raises:
            ValueError: It is one.
        """
        if any(map(is_compiled, self.modules)):
            raise ValueError(
                f"{reader} needs gradients of the discriminator's gradients, which torch.compile(network) does not "
                "offer. Pass the network itself and run(..., compile=True), which compiles the penalty too."
            )

    def check_frozen(self) -> None:
        """Refuse a step at which the logits depend on no parameter, unless the user has frozen all of them.

        Raises:
            ValueError: Some are not frozen; the message names them.
        """
        if trainable := self.trainable():
            raise ValueError(
                "the discriminator's logits depend on none of its parameters at this step "
                f"({listed(trainable)}). Compute them without detach() and torch.no_grad(), or freeze "
                "the parameters by requires_grad_(False)."
            )

    def both(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The logits of real and of fake rows, in one call where that makes no difference.

        Args:
            real: Each compared site's real rows, with shape :math:`(N, *)`.
            fake: The fake rows, with shape :math:`(M, *)`.

        Returns:
            The logits, with shapes :math:`(N,)` and :math:`(M,)`.
        """
        alike = all(rows.dtype == fake[site].dtype and rows.device == fake[site].device for site, rows in real.items())
        if not alike or not self._treats_rows_alone(real, fake):
            return self(real), self(fake)
        sizes = [len(next(iter(sample.values()))) for sample in (real, fake)]
        # No views, so that a loss may work in place on one of them.
        real_logits, fake_logits = self(_joined(real, fake)).unsafe_split_with_sizes(sizes)
        return real_logits, fake_logits

    def meet(self, parameters: list[Tensor]) -> dict[str, Tensor]:
        """Take note of parameters that may be new; return them by the names that they got at first sight."""
        names = {parameter: name for name, parameter in self.parameters.items()}
        for parameter in parameters:
            if parameter not in names:
                names[parameter] = self._name(parameter)
                self.fill(names[parameter], parameter)
        return {names[parameter]: parameter for parameter in parameters}

    def _treats_rows_alone(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> bool:
        """Whether a row's logit depends on that row alone, with the modules in their present modes.

        Batch statistics, dropout, spectral normalization's iterations and whatever else sees which rows come together
        tell themselves: by other logits, other gradients, changed buffers or used random numbers.
        """
        modes = tuple([(module, module.training) for module in self.modules])
        if modes not in self._alone:
            with kept_buffers(*self.modules), kept_random_state(self.device), torch.enable_grad(), self.creating:
                self._alone[modes] = self._are_alike(real, fake)
        return self._alone[modes]

    def _are_alike(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> bool:
        """Whether one joint call gives the logits and gradients of two calls, and leaves nothing behind."""
        real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in (real, fake))
        self._fill_others()
        buffers = self.buffers()
        before, states = [buffer.clone() for buffer in buffers], random_states(self.device)
        writes = [buffer._version for buffer in buffers]
        one_by_one = torch.cat([self._judge(real), self._judge(fake)])
        if random_states(self.device).has_drawn_by_torch(states):
            return False
        if writes != [buffer._version for buffer in buffers] or not all(map(torch.equal, buffers, before)):
            return False
        try:
            together = self._judge(_joined(real, fake))
        except Exception:  # as of a discriminator that counts on so many rows
            return False
        weights = torch.linspace(-1.0, 2.0, len(together), dtype=together.dtype, device=together.device)
        parameters = [leaf for leaf in leaves(one_by_one) if leaf in set(leaves(together))]
        pairs = [(one_by_one, together)]
        if parameters:  # else all of them are frozen
            gradients = (
                torch.autograd.grad((weights * logits).sum(), parameters, allow_unused=True, materialize_grads=True)
                for logits in (one_by_one, together)
            )
            pairs += zip(*gradients, strict=True)
        return all(_are_close(one, other) for one, other in pairs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_alone": {}}

    def _judge(self, values: dict[str, Tensor]) -> Tensor:
        if self.writes_in_place:
            values = {site: rows.clone() for site, rows in values.items()}
        only, *others = values.values()
        in_order = not others or self._by_position
        output = self.function(only, *others) if in_order else self.function(**values)
        if not isinstance(output, Tensor):
            raise TypeError(
                f"the discriminator must return a tensor of logits, but returned {type(output).__name__}. "
                "Return one logit a row."
            )
        if output.shape not in ((len(only),), (len(only), 1)):
            raise ValueError(
                f"the discriminator must return one logit a row, with shape ({len(only)},) or ({len(only)}, 1), "
                f"but returned shape {tuple(output.shape)}. End it with nn.Linear(..., 1)."
            )
        return output.reshape(len(only))

    def _first_look(self, values: dict[str, Tensor]) -> None:
        with self.look(), torch.enable_grad():
            rows = {site: value.detach().clone() for site, value in values.items()}
            logits = self._judge(rows)
            self.writes_in_place = are_written(rows.values())
            check_logits(logits)
            self.meet(leaves(logits))

    def _name(self, parameter: Tensor) -> str:
        """The module's own name for a parameter, or Pyro's, or its number in the order of appearance."""
        if isinstance(self.function, nn.Module):
            for name, own in self.function.named_parameters():
                if own is parameter:
                    return name
        return pyro.get_param_store().param_name(parameter) or f"parameter {len(self.parameters)}"


def _are_close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same but for rounding; none is that holds NaN or infinity."""
    largest = float(one.detach().abs().max()) if one.numel() else 0.0
    return math.isfinite(largest) and torch.allclose(one, other, rtol=1e-3, atol=1e-4 * largest)


def _joined(real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
    return {site: torch.cat([rows, fake[site]]) for site, rows in real.items()}


def _needed(function: Callable[..., Tensor]) -> list[str]:
    """The arguments that a discriminator can not do without, as far as Python can tell."""
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variable
    ]


def _taken(function: Callable[..., Tensor]) -> list[str]:
    """The arguments that a discriminator takes by name, as far as Python can tell."""
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in signature.parameters.values() if parameter.kind in kinds]


def _check_takes(function: Callable[..., Tensor], sites: tuple[str, ...]) -> None:
    """Refuse several sites that are not the discriminator's arguments, as far as Python can tell."""
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):
        return
    parameters = signature.parameters.values()
    if len(sites) < 2 or any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    by_position = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.POSITIONAL_ONLY]
    if by_position:
        raise ValueError(
            f"the discriminator takes {', '.join(by_position)} by position, but several sites are given by name. "
            "Remove the slash from its arguments."
        )
    missing = [site for site in sites if site not in signature.parameters]
    needed = [name for name in _needed(function) if name not in sites]
    if missing or needed:
        wanted = ", ".join(sites) if all(map(str.isidentifier, sites)) else "**rows"
        raise ValueError(
            f"the discriminator takes {', '.join(signature.parameters) or 'no arguments'}, but the sites compared are "
            f"{listed(sites)}. Name its arguments after them: def discriminator({wanted})."
        )


def check_logits(logits: Tensor) -> None:
    """Refuse, at the first look, logits that can not be trained on.

    Raises:
        ValueError: They depend on no parameters, are probabilities, or are not finite.
    """
    if not leaves(logits):
        raise ValueError(
            "the discriminator has no parameters to train: its logits depend on no tensor that requires a gradient. "
            "Use a module with trainable parameters, or pyro.param within the function."
        )
    if _ends_in_probability(logits):
        raise ValueError(
            "the discriminator returns probabilities (it ends in a sigmoid or softmax), but logits are expected. "
            "Remove its last activation."
        )
    if not torch.isfinite(logits).all():
        raise ValueError(
            "the discriminator's logits are NaN or infinite on the first rows that it judges. "
            "Check the data, the model and the discriminator."
        )


def _ends_in_probability(logits: Tensor) -> bool:
    """Whether the logits, seen through changes of shape, means and clamps, come out of a sigmoid or a softmax."""
    return any(name.startswith(PROBABILITIES) for name in ends(logits, through=("Clamp", "Mean")))
