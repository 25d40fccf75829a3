"""One player's optimizer: one torch optimizer over all of its parameters, its schedule and its gradient clipping."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from pyro.params.param_store import module_from_param_with_module_name, normalize_param_name, user_param_name
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

OptimizerChoice = PyroOptim | Callable[[Iterable[Tensor]], Optimizer | LRScheduler] | None
"""What a user may pass as `optim`: Pyro's, or a callable from parameters to a torch optimizer or schedule."""


def default_optimizer(parameters: Iterable[Tensor]) -> Optimizer:
    r"""Adam with rate :math:`10^{-3}` and :math:`\beta = (0.5, 0.999)`, in its fused form.

    The halved :math:`\beta_1` is Radford et al.'s (2016, section 4): a player's gradient turns with its opponent, so a
    long memory of it misleads.
    """
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999), fused=True)


class PlayerOptimizer:
    """Updates one player's parameters, which it meets as they appear.

    Args:
        choice: `None` for :func:`default_optimizer`; a callable from a list of parameters to a torch optimizer, or to a
            schedule (`LRScheduler`) over one, which advances by one at each step of inference; or a `PyroOptim`, which
            serves as a recipe: its constructor, arguments, clipping and schedule make one optimizer for all.
        argument: The argument's name, for messages.
        clip_norm: The largest norm of the player's whole gradient, or `None` not to clip.

    Raises:
        TypeError: `choice` is of neither kind.
        ValueError: `clip_norm` is not a positive finite number.
    """

    def __init__(self, choice: OptimizerChoice, argument: str, clip_norm: float | None = None) -> None:
        if isinstance(choice, Optimizer) or not (choice is None or callable(choice)):
            raise TypeError(
                f"{argument} must be a pyro.optim.PyroOptim or a callable from parameters to a torch optimizer, "
                f"but is {choice!r}. Pass for example "
                f"{argument}=lambda parameters: torch.optim.Adam(parameters, lr=1e-3)."
            )
        if clip_norm is not None and not (
            isinstance(clip_norm, int | float) and not isinstance(clip_norm, bool) and 0 < clip_norm < math.inf
        ):
            name = argument.replace("optim", "clip_norm")
            raise ValueError(f"{name} must be a positive number, but is {clip_norm!r}.")
        self.choice = choice
        self.argument = argument
        self.clip_norm = clip_norm
        self.optimizer: Optimizer | None = None
        self.schedule: LRScheduler | None = None
        self.parameters: dict[str, Tensor] = {}
        self.pending: dict[str, Any] | None = None
        self._known: set[Tensor] = set()

    def knows(self, parameters: Iterable[Tensor]) -> bool:
        """Whether all of these parameters have been met."""
        return self._known.issuperset(parameters)

    def meet(self, parameters: dict[str, Tensor]) -> None:
        """Take on the parameters that are new, by name; the first ones build the optimizer.

        Raises:
            TypeError: The user's callable returns neither a torch optimizer nor a schedule.
        """
        new = {name: parameter for name, parameter in parameters.items() if parameter not in self._known}
        if self.optimizer is None:
            self._build(new)
        else:
            self._add(new)
        self.parameters.update(new)
        self._known.update(new.values())

    def update(self, loss: Tensor, parameters: list[Tensor]) -> None:
        """One descent step on `loss`, a 0-dimensional tensor, in the given parameters and no others."""
        optimizer = self.optimizer
        if optimizer is None:
            raise RuntimeError("meet the parameters before the first update")
        for parameter in self._known:
            parameter.grad = None
        loss.backward(inputs=parameters)
        self._clip()
        optimizer.step()

    def advance_schedule(self) -> None:
        """Advance the learning-rate schedule, where there is one, by one step of inference."""
        if self.schedule is not None:
            self.schedule.step()

    def state_dict(self) -> dict[str, Any] | None:
        """The optimizer's and the schedule's state; `None` before the first update."""
        if self.optimizer is None:
            return self.pending
        schedule = None if self.schedule is None else self.schedule.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "schedule": schedule}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take over a state: at once, or as soon as the parameters are known."""
        if self.optimizer is None or state is None:
            self.pending = state
            return
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None and state["schedule"] is not None:
            self.schedule.load_state_dict(state["schedule"])

    def _build(self, parameters: dict[str, Tensor]) -> None:
        if isinstance(self.choice, PyroOptim):
            made: Any = _from_pyro(self.choice, parameters)
        else:
            made = (self.choice or default_optimizer)(list(parameters.values()))
        if isinstance(made, ReduceLROnPlateau):
            raise TypeError(
                f"{self.argument} makes a ReduceLROnPlateau, which waits for a falling loss, but adversarial losses "
                "do not tell progress. Use a schedule of the step count, such as CosineAnnealingLR."
            )
        self.schedule = made if isinstance(made, LRScheduler) else None
        optimizer = made.optimizer if isinstance(made, LRScheduler) else made
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{self.argument} must make a torch.optim.Optimizer or a schedule over one from the parameters, "
                f"but made {made!r} ({type(made).__name__})."
            )
        self.optimizer = optimizer
        if self.pending is not None:
            self.load_state_dict(self.pending)
            self.pending = None

    def _add(self, parameters: dict[str, Tensor]) -> None:
        if self.optimizer is None or not parameters:
            return
        if isinstance(self.choice, PyroOptim) and callable(self.choice.pt_optim_args):
            for name, parameter in parameters.items():
                self.optimizer.add_param_group({"params": [parameter], **_pyro_arguments(self.choice, name)})
            if self.schedule is not None:
                new_groups = self.optimizer.param_groups[len(self.schedule.base_lrs) :]
                self.schedule.base_lrs.extend(group["lr"] for group in new_groups)
        else:  # a group of its own would have no place in a schedule made before
            self.optimizer.param_groups[0]["params"].extend(parameters.values())

    def _clip(self) -> None:
        if self.clip_norm is not None:
            clip_grad_norm_(self.parameters.values(), self.clip_norm)
        if isinstance(self.choice, PyroOptim) and self.choice.pt_clip_args:
            for name, parameter in self.parameters.items():
                _pyro_clip(parameter, **_pyro_clip_arguments(self.choice, name))


def _from_pyro(choice: PyroOptim, parameters: dict[str, Tensor]) -> Any:
    """One torch optimizer, or schedule over one, with the arguments that a `PyroOptim` gives each parameter.

    Called as Pyro calls it, a `PyroOptim` runs an optimizer per parameter, which costs more than the step itself.
    """
    groups: list[dict[str, Any]] = []
    for name, parameter in parameters.items():
        arguments = _pyro_arguments(choice, name)
        same = [group for group in groups if {k: v for k, v in group.items() if k != "params"} == arguments]
        if same:
            same[0]["params"].append(parameter)
        else:
            groups.append({"params": [parameter], **arguments})
    defaults = {key: value for key, value in groups[0].items() if key != "params"}
    constructor: Callable[..., Optimizer] = choice.pt_optim_constructor  # type: ignore[assignment]
    optimizer = constructor(groups, **defaults)
    if isinstance(choice, PyroLRScheduler):
        return choice.pt_scheduler_constructor(optimizer, **choice.kwargs)
    return optimizer


def _pyro_arguments(choice: PyroOptim, name: str) -> dict[str, Any]:
    if not callable(choice.pt_optim_args):
        return dict(choice.pt_optim_args)
    if choice.pt_optim_args_argc == 1:
        return choice.pt_optim_args(normalize_param_name(name))
    return choice.pt_optim_args(module_from_param_with_module_name(name), user_param_name(name))


def _pyro_clip_arguments(choice: PyroOptim, name: str) -> dict[str, float]:
    if not callable(choice.pt_clip_args):
        return choice.pt_clip_args
    return choice.pt_clip_args(module_from_param_with_module_name(name), user_param_name(name))


def _pyro_clip(parameter: Tensor, clip_norm: float | None = None, clip_value: float | None = None) -> None:
    if clip_norm is not None:
        clip_grad_norm_(parameter, clip_norm)
    if clip_value is not None:
        clip_grad_value_(parameter, clip_value)
