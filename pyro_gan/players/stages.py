"""Several discriminators of one model: each compared site is a stage with one of its own, and their losses add.

References:
    Zhang et al. (2017), "StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial
    Networks", section 3.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from pyro_gan.checks import listed, shown
from pyro_gan.players.discriminator import Discriminator
from pyro_gan.players.first_look import builds_itself_later
from pyro_gan.players.graph import leaves


class Stages(nn.Module):
    """The users' callables by stage, of which the modules are parts of this one.

    Args:
        functions: The callables by the names of the compared sites.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Tensor]]) -> None:
        super().__init__()
        self.functions = dict(functions)
        for name, function in self.functions.items():
            if isinstance(function, nn.Module):
                self.add_module(name.replace(".", "_"), function)

    @property
    def is_built(self) -> bool:
        """Whether all have their parts."""
        return not any(map(builds_itself_later, self.functions.values()))

    def built(self) -> dict[str, Any]:
        """What those that build themselves saw in their first rows."""
        return {name: each.built() for name, each in self.functions.items() if hasattr(each, "built")}

    def build_as(self, built: Mapping[str, Any] | None) -> None:
        """Have the parts that others have.

        Args:
            built: What :meth:`built` of the others returned.
        """
        for name, each in self.functions.items():
            if hasattr(each, "build_as"):
                each.build_as(None if built is None else built.get(name))

    def setup(self, supports: Mapping[str, Constraint], real: Mapping[str, Tensor]) -> None:
        """Let those build themselves that do so.

        Args:
            supports: The supports of the compared sites.
            real: The first rows by name.
        """
        for name, each in self.functions.items():
            if hasattr(each, "setup"):
                given = {other: rows for other, rows in real.items() if other not in self.functions}
                each.setup({name: supports[name]} if name in supports else {}, {name: real[name], **given})


def discriminator_of(given: Any, device: torch.device, move: bool) -> Discriminator:
    """What a user passed as a discriminator: a callable, or a mapping of such by compared site.

    Args:
        given: The discriminator.
        device: As of :class:`Discriminator`.
        move: Likewise.

    Raises:
        TypeError: It is neither.
    """
    return (StagedDiscriminator if isinstance(given, Mapping) else Discriminator)(given, device, move)


class StagedDiscriminator(Discriminator):
    """A discriminator for each stage. Called as a whole, it gives the logits of all stages, one after the other.

    Args:
        functions: A discriminator callable by the name of each compared site. It is called with that site's rows, with
            the conditions that it takes, and with other sites that it names among its arguments.
        device: As of :class:`Discriminator`.
        move: Likewise.

    Raises:
        TypeError: One is no callable.
        ValueError: There are none.
    """

    def __init__(self, functions: Mapping[str, Any], device: torch.device, move: bool) -> None:
        if not functions:
            raise ValueError(
                "discriminator is a mapping without a stage. Pass one such as {'draft': ..., 'image': ...}."
            )
        for name, function in functions.items():
            if not isinstance(name, str) or not callable(function):
                raise TypeError(
                    "discriminator must be a callable, or a mapping of callables by site such as {'draft': ..., "
                    f"'image': ...}}, but has {shown(function)} ({type(function).__name__}) for {name!r}."
                )
        super().__init__(Stages(functions), device, move)
        self.stages = {name: Discriminator(function, device, move) for name, function in functions.items()}
        self._conditions: tuple[str, ...] = ()

    def parts(self) -> list[tuple[Discriminator, Callable[[dict[str, Tensor]], dict[str, Tensor]]]]:
        return [(stage, self._selection(name)) for name, stage in self.stages.items()]

    def functions(self) -> list[Callable[..., Any]]:
        return [stage.function for stage in self.stages.values()]

    @contextmanager
    def kept(self) -> Iterator[None]:
        with ExitStack() as stack:
            for stage in self.stages.values():
                stack.enter_context(stage.kept())
            stack.enter_context(super().kept())
            yield

    def part_for(self, names: Iterable[str]) -> Discriminator:
        given = [name for name in names if name in self.stages]
        if len(given) != 1:
            raise ValueError(
                f"each stage has a log ratio of its own, but rows of {listed(given) or 'none'} were passed. Pass those "
                f"of one of {listed(self.stages)}, as log_ratio({{{next(iter(self.stages))!r}: ...}})."
            )
        return self.stages[given[0]]

    def __call__(self, values: dict[str, Tensor]) -> Tensor:
        if not self.is_known:
            with self.look(), torch.enable_grad():
                self.meet(leaves(self._all({site: rows.detach() for site, rows in values.items()})))
        self._fill_others()
        return self._all(values)

    def both(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        pairs = [stage.both(select(real), select(fake)) for stage, select in self.parts()]
        return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])

    def asks_for(self, sites: Iterable[str], conditions: Iterable[str] = ()) -> tuple[str, ...]:
        compared, self._conditions = tuple(sites), tuple(conditions)
        names = [each for name, stage in self.stages.items() for each in stage.asks_for((name,), self._conditions)]
        return tuple(name for name in dict.fromkeys(names) if name not in compared)

    def masks(self, sites: Iterable[str]) -> tuple[str, ...]:
        return tuple(mask for name, stage in self.stages.items() if name in sites for mask in stage.masks((name,)))

    def set_up(self, real: dict[str, Tensor], supports: dict[str, Constraint]) -> None:
        for stage, select in self.parts():
            rows = select(real)
            stage.set_up(rows, {site: each for site, each in supports.items() if site in rows})

    def check_sees(self, sites: Iterable[str]) -> None:
        unseen = [site for site in sites if site not in self.stages and not self._is_taken(site)]
        if unseen:
            raise ValueError(
                f"the site {unseen[0]!r} has no discriminator: there are those of {listed(self.stages)}. Add one, "
                f"discriminator={{..., {unseen[0]!r}: ...}}, or leave it out with site={list(self.stages)!r}."
            )

    def _is_taken(self, site: str) -> bool:
        return any(site in stage.asks_for((name,), self._conditions) for name, stage in self.stages.items())

    def _selection(self, name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """What a stage is called with, of all rows by name."""

        def select(values: dict[str, Tensor]) -> dict[str, Tensor]:
            names = (name, *self.stages[name].asks_for((name,), self._conditions))
            return {each: values[each] for each in names if each in values}

        return select

    def _all(self, values: dict[str, Tensor]) -> Tensor:
        return torch.cat([stage(select(values)) for stage, select in self.parts()])
