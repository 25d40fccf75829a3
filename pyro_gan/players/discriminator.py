"""The discriminator: any callable that gives one logit a row."""

import inspect
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from pyro_gan.players.player import Player


def leaves(output: Tensor) -> list[Tensor]:
    """The parameters that a tensor was computed from: the leaves of its autograd graph, in a fixed order."""
    found = [output] if output.grad_fn is None and output.requires_grad else []
    seen: set[Any] = set()
    nodes = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        nodes.extend(parent for parent, _ in reversed(node.next_functions))
    return found


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
                f"but is {function!r} ({type(function).__name__})."
            )
        super().__init__(function, device, move)

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

    def set_up(self, real: dict[str, Tensor], supports: dict[str, Constraint]) -> None:
        """Before the first run: see that the sites fit, and let a discriminator that builds itself do so.

        Args:
            real: The first minibatch's real rows by site.
            supports: Each site's support in the model.

        Raises:
            ValueError: The discriminator does not take the compared sites by name.
        """
        _check_takes(self.function, tuple(real))
        if not self.is_known and hasattr(self.function, "setup"):
            self.function.setup(supports, real)

    def meet(self, parameters: list[Tensor]) -> dict[str, Tensor]:
        """Take note of parameters that may be new; return all, by the names that they got at first sight."""
        known = set(self.parameters.values())
        new = [parameter for parameter in parameters if parameter not in known]
        for parameter in new:
            self.fill(self._name(parameter), parameter)
        return self.parameters

    def _judge(self, values: dict[str, Tensor]) -> Tensor:
        only, *others = values.values()
        output = self.function(**values) if others else self.function(only)
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
            logits = self._judge({site: rows.detach() for site, rows in values.items()})
            check_logits(logits)
            self.meet(leaves(logits))

    def _name(self, parameter: Tensor) -> str:
        """The module's own name for a parameter, or Pyro's, or its number in the order of appearance."""
        if isinstance(self.function, nn.Module):
            for name, own in self.function.named_parameters():
                if own is parameter:
                    return name
        return pyro.get_param_store().param_name(parameter) or f"parameter {len(self.parameters)}"


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
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
        and parameter.name not in sites
    ]
    if missing or needed:
        wanted = ", ".join(sites) if all(map(str.isidentifier, sites)) else "**rows"
        raise ValueError(
            f"the discriminator takes {', '.join(signature.parameters) or 'no arguments'}, but the sites compared are "
            f"{', '.join(map(repr, sites))}. Name its arguments after them: def discriminator({wanted})."
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
    node = logits.grad_fn
    harmless = (
        "Cat",
        "View",
        "Reshape",
        "UnsafeView",
        "Squeeze",
        "Select",
        "Alias",
        "Clone",
        "Clamp",
        "Mean",
        "ToCopy",
    )
    while node is not None and node.name().startswith(harmless):
        node = node.next_functions[0][0]
    ends = ("Sigmoid", "Softmax", "Hardsigmoid", "LogSigmoid", "LogSoftmax")
    return node is not None and node.name().startswith(ends)
