"""One player's optimizer: one torch optimizer over all of its parameters, its schedule and its gradient clipping."""

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from pyro.params.param_store import module_from_param_with_module_name, normalize_param_name, user_param_name
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pyro_gan.checks import finite_number, shown
from pyro_gan.recipes import default_optimizer, default_rate
from pyro_gan.training.optimizer_state import check_alike, check_moments, chosen, plain_without_functions

OptimizerChoice = PyroOptim | Callable[[Iterable[Tensor]], Optimizer | LRScheduler] | None
"""What a user may pass as `optim`: Pyro's, or a callable from parameters to a torch optimizer or schedule."""


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
        uncalled = not isinstance(choice, PyroOptim) and str(getattr(choice, "__module__", "")).startswith("pyro.optim")
        if isinstance(choice, Optimizer) or uncalled or not (choice is None or callable(choice)):
            raise TypeError(
                f"{argument} must be a pyro.optim.PyroOptim or a callable from parameters to a torch optimizer, "
                f"but is {shown(choice)}. Pass for example {argument}=pyro.optim.Adam({{'lr': 1e-3}}) or "
                f"{argument}=lambda parameters: torch.optim.Adam(parameters, lr=1e-3)."
            )
        if clip_norm is not None:
            finite_number(argument.replace("optim", "clip_norm"), clip_norm)
        self.choice = choice
        self.argument = argument
        self.clip_norm = clip_norm
        self.optimizer: Optimizer | None = None
        self.schedule: LRScheduler | None = None
        self.parameters: dict[str, Tensor] = {}
        self._loaded: dict[str, Any] | None = None
        self._chosen: dict[str, Any] = {}
        self._progress = 0.0
        self._known: set[Tensor] = set()
        self._unpaced: set[str] = set()
        """Parameters of a loaded state in which none had a pace."""

    @property
    def is_default(self) -> bool:
        """Whether the user left the choice to :func:`default_optimizer`."""
        return self.choice is None

    def knows(self, parameters: Iterable[Tensor]) -> bool:
        """Whether all of these parameters have been met."""
        return self._known.issuperset(parameters)

    def replaced(self, parameters: dict[str, Tensor]) -> list[str]:
        """The names of parameters that belonged to others, which have been met."""
        return [name for name, leaf in parameters.items() if self.parameters.get(name, leaf) is not leaf]

    def meet(
        self,
        parameters: dict[str, Tensor],
        decaying: Collection[Tensor] = (),
        numbers: Collection[Tensor] = (),
        saturating: Collection[Tensor] = (),
    ) -> None:
        """Take on the parameters that are new, by name; the first ones build the optimizer.

        Args:
            parameters: The parameters.
            decaying: As of :func:`default_optimizer`, which alone is told.
            numbers: Likewise.
            saturating: Likewise.

        Raises:
            TypeError: The user's callable returns neither a torch optimizer nor a schedule.
        """
        new = {name: parameter for name, parameter in parameters.items() if parameter not in self._known}
        if not new:
            return
        for name in new.keys() & self.parameters.keys():  # as after pyro.clear_param_store()
            self._drop(name)
        if self.optimizer is None:
            made, schedule = self._make(new, decaying, numbers, saturating)
            now = chosen(made, schedule, new)
            if self._loaded is not None:
                self._check_alike(self._loaded["chosen"], now)
                check_moments(self.argument, self._loaded, new)
            self.optimizer, self.schedule, self._chosen = made, schedule, now
        else:
            self._add(new, decaying, numbers, saturating)
        self.parameters.update(new)
        self._known.update(new.values())
        self._fill()
        self.set_progress(self._progress)

    def clear(self) -> None:
        """Let go of the last gradients, so that the next ones find their memory."""
        for parameter in self._known:
            parameter.grad = None

    def update(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], not_finite: Tensor | None = None
    ) -> None:
        """One descent step in the given parameters and no others, along their gradients.

        Args:
            parameters: The parameters.
            gradients: The gradient of each, or `None`.
            not_finite: On a device, 1.0 where the step is to be left out, else 0.0; a 0-dimensional tensor.
        """
        optimizer = self._made()
        self.clear()
        clips, given = self._clips(), set[int]()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None and gradient.layout == torch.strided:
                gradient = _laid_out(gradient, parameter, clips or gradient.data_ptr() in given)
                given.add(gradient.data_ptr())
            parameter.grad = gradient
        if not parameters:  # all of them are frozen at this step
            return
        if not_finite is None:
            self._clip()
            optimizer.step()
        else:
            self._step_unless(not_finite, optimizer)

    def advance_schedule(self) -> None:
        """Advance the learning-rate schedule, where there is one, by one step of inference."""
        if self.schedule is not None:
            self.schedule.step()

    def set_progress(self, progress: float) -> None:
        """Set a default optimizer's rate for a part of a run, from 0 to 1; one that the user chose keeps its own."""
        self._progress = progress
        if self.is_default and self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = group.get("pace", 1.0) * default_rate(progress)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the optimizer's and the schedule's state by parameter name, once parameters have been met."""
        optimizer = self._made()
        names = {parameter: name for name, parameter in self.parameters.items()}
        groups = [
            {
                "names": [names[parameter] for parameter in group["params"]],
                "options": {key: value for key, value in group.items() if key != "params"},
            }
            for group in optimizer.param_groups
        ]
        state = {names[parameter]: values for parameter, values in optimizer.state.items()}
        schedule = None if self.schedule is None else self.schedule.state_dict()
        held = {"chosen": self._chosen, "groups": groups, "state": state, "schedule": schedule}
        return plain_without_functions(held, self.argument)

    def check_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse a state that does not fit, as far as the parameters are known.

        Raises:
            ValueError: It is another optimizer's, or holds moments of another shape than a parameter's.
        """
        if self.optimizer is not None:
            self._check_alike(state["chosen"], self._chosen)
            check_moments(self.argument, state, self.parameters)

    def _check_alike(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Refuse the state of another optimizer; the rates and decays of the default one are no choice of the user's.

        Raises:
            ValueError: It is one.
        """
        check_alike(self.argument, before, now, without=("lr", "weight_decay") if self.is_default else ())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state: at once where the parameters are known, else as they are met."""
        self._loaded = copy.deepcopy(state)
        if self.optimizer is not None:
            self._fill()
            self.set_progress(self._progress)

    def __getstate__(self) -> dict[str, Any]:
        """A copy meets its parameters anew, which may be others than these, and then takes over the state."""
        loaded = self._loaded if self.optimizer is None else self.state_dict()
        return {**vars(self), "optimizer": None, "schedule": None, "parameters": {}, "_known": set(), "_loaded": loaded}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A context after which, if it fails, parameters are as unknown as before."""
        before = (self.optimizer, self.schedule, dict(self.parameters), set(self._known), copy.copy(self._loaded))
        try:
            yield
        except BaseException:
            self.optimizer, self.schedule, self.parameters, self._known, self._loaded = before
            raise

    def _made(self) -> Optimizer:
        if self.optimizer is None:
            raise RuntimeError("parameters must be met before the first update")
        return self.optimizer

    def _fill(self) -> None:
        """Give the parameters that are known their loaded state; what is left waits for those to come."""
        if self._loaded is None:
            return
        optimizer, current = self._made(), self.state_dict()
        for group in self._loaded["groups"]:
            if self.is_default and "pace" not in group.get("options", {"pace": None}):
                self._unpaced.update(group["names"])
        for group in current["groups"]:
            same = [other for other in self._loaded["groups"] if set(other["names"]) & set(group["names"])]
            if same and "options" in same[0]:  # once: later the options are those that the run has come to
                group["options"] = {**group["options"], **same[0].pop("options")}
        for group in current["groups"]:  # a state of before plain numbers had a pace goes on at its own
            if before := self._unpaced.intersection(group["names"]):
                group["options"]["pace"] = 1.0
                self._unpaced -= before
        for name in self.parameters:
            if name in self._loaded["state"]:
                current["state"][name] = self._loaded["state"].pop(name)
        index = {name: number for number, name in enumerate(self.parameters)}
        optimizer.load_state_dict(  # torch's own, which puts every value on its device and into its precision
            {
                "state": {index[name]: values for name, values in current["state"].items()},
                "param_groups": [
                    {**group["options"], "params": [index[name] for name in group["names"]]}
                    for group in current["groups"]
                ],
            }
        )
        schedule = self._loaded.pop("schedule", None)
        if self.schedule is not None and schedule is not None:
            self.schedule.load_state_dict(schedule)

    def _make(self, parameters: dict[str, Tensor], *kinds: Collection[Tensor]) -> tuple[Optimizer, LRScheduler | None]:
        """The optimizer, and the schedule if there is one, that the user's choice gives these parameters."""
        if self.choice is None:
            made: Any = default_optimizer(parameters.values(), *kinds)
        elif isinstance(self.choice, PyroOptim):
            made = _from_pyro(self.choice, parameters)
        else:
            made = self.choice(list(parameters.values()))
        schedule = made if isinstance(made, LRScheduler) else None
        optimizer = made.optimizer if isinstance(made, LRScheduler) else made
        if isinstance(made, ReduceLROnPlateau) or isinstance(optimizer, torch.optim.LBFGS):
            raise TypeError(
                f"{self.argument} makes a {type(made).__name__}, which waits for a falling loss, but adversarial "
                "losses do not fall. Use a schedule of the step count, or an optimizer that needs gradients alone."
            )
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{self.argument} must make a torch.optim.Optimizer or a schedule over one from the parameters, "
                f"but made {shown(made)} ({type(made).__name__})."
            )
        return optimizer, schedule

    def _add(self, parameters: dict[str, Tensor], *kinds: Collection[Tensor]) -> None:
        """Train parameters that appear late, with those that have the same options where there are any."""
        optimizer, (made, schedule) = self._made(), self._make(parameters, *kinds)
        self._chosen["options"] |= chosen(made, schedule, parameters)["options"]
        for new in made.param_groups:
            alike = [group for group in optimizer.param_groups if _options(group) == _options(new)]
            if alike:
                alike[0]["params"].extend(new["params"])
                continue
            optimizer.add_param_group(new)
            if self.schedule is not None:
                self.schedule.base_lrs.append(new["lr"])
        optimizer.state.update(made.state)

    def _drop(self, name: str) -> None:
        """Forget a parameter whose name now belongs to another."""
        optimizer, old = self._made(), self.parameters.pop(name)
        self._known.discard(old)
        optimizer.state.pop(old, None)
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter is not old]

    def _step_unless(self, not_finite: Tensor, optimizer: Optimizer) -> None:
        """A step that a device leaves out by itself; an optimizer that can not takes it along a gradient of zeros."""
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            self._clip()
            optimizer.grad_scale, optimizer.found_inf = None, not_finite  # type: ignore[attr-defined]
            try:
                optimizer.step()
            finally:
                del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
            return
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad = torch.where(not_finite > 0, torch.zeros_like(parameter.grad), parameter.grad)
        self._clip()
        optimizer.step()

    def _clips(self) -> bool:
        return self.clip_norm is not None or bool(isinstance(self.choice, PyroOptim) and self.choice.pt_clip_args)

    def _clip(self) -> None:
        if self.clip_norm is not None:
            clip_grad_norm_(self.parameters.values(), self.clip_norm)
        if isinstance(self.choice, PyroOptim) and self.choice.pt_clip_args:
            for name, parameter in self.parameters.items():
                if parameter.grad is not None:
                    _pyro_clip(parameter, **_pyro_clip_arguments(self.choice, name))


def _from_pyro(choice: PyroOptim, parameters: dict[str, Tensor]) -> Any:
    """One torch optimizer, or schedule over one, with the arguments that a `PyroOptim` gives each parameter.

    Called as Pyro calls it, a `PyroOptim` runs an optimizer per parameter, which costs more than the step itself.
    """
    groups: list[tuple[dict[str, Any], list[Tensor]]] = []
    for name, parameter in parameters.items():
        arguments = _pyro_arguments(choice, name)
        alike = [members for other, members in groups if other == arguments]
        if alike:
            alike[0].append(parameter)
        else:
            groups.append((arguments, [parameter]))
    constructor: Callable[..., Optimizer] = choice.pt_optim_constructor  # type: ignore[assignment]
    optimizer, *others = (constructor(members, **arguments) for arguments, members in groups)
    for other in others:  # each group keeps the defaults and the first state that the constructor gave it
        optimizer.add_param_group(other.param_groups[0])
        optimizer.state.update(other.state)
    if isinstance(choice, PyroLRScheduler):
        return choice.pt_scheduler_constructor(optimizer, **choice.kwargs)
    return optimizer


def _laid_out(gradient: Tensor, parameter: Tensor, is_copied: bool) -> Tensor:
    """A gradient in its parameter's memory layout, which fused optimizers take for granted; a copy where asked for.

    What `autograd.grad` returns may be expanded, transposed, or one tensor for several parameters.
    """
    if gradient.stride() == parameter.stride() and not is_copied:
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """What was chosen for a parameter group at first, before any schedule moved it."""
    options = {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
    return {**options, "lr": group.get("initial_lr", group.get("lr"))}


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
