"""What the two players of the game have in common: a user's callable, the modules it calls, and its parameters."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyro_gan.checks import listed
from pyro_gan.players.devices import calling_modules, check_works_on, creating_on
from pyro_gan.players.first_look import kept_buffers, kept_random_state

FORMATS = (1, 2, 3, 4, 5)
"""When buffers came that earlier states have not, counted from the first time, as modules tell by `later_format`."""


class Player:
    """The generator's or the discriminator's side: parameters by name, and the modules called.

    Args:
        function: The user's callable.
        device: The device on which the player works.
        move: Whether the modules and parameters that it uses are moved there.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, move: bool) -> None:
        self.function = function
        self.device = device
        self.move = move
        self.is_known = False
        self.writes_in_place = False
        """Whether the callable writes to what it is given; it is then given copies."""
        self.saturates = False
        """Whether what it draws comes out of a function such as a sigmoid, which flattens towards its ends."""
        self.parameters: dict[str, Tensor] = {}
        self._roots: list[nn.Module] = []
        self._loaded: dict[str, Any] | None = None
        self._shared: dict[str, Tensor] = {}
        """Of a copy, the parameters of the player that it was copied from, which a function of a network shares."""
        self.takes_over = True
        """Whether a copy gives parameters that it shares its own values; only a step does."""
        self._replaced: list[tuple[Tensor, Tensor]] | None = None
        """Within a look, tensors and what loaded values have replaced in them, to be put back if it fails."""

    @property
    def creating(self) -> AbstractContextManager[Any]:
        """A context in which new tensors are made on the player's device."""
        return creating_on(self.device)

    @contextmanager
    def look(self) -> Iterator[None]:
        """A context for the first run: it finds the modules called and moves them, and leaves no other effect."""
        with self.kept(), self._looking():
            yield

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A context after which, if it fails, the player is as unknown as before, and parameters have their values."""
        before = vars(self).copy()
        before |= {name: each.copy() for name, each in before.items() if isinstance(each, dict)}
        if self._loaded is not None:
            before["_loaded"] = {**self._loaded, "parameters": dict(self._loaded["parameters"])}
        self._replaced = []
        try:
            yield
        except BaseException:
            with torch.no_grad():
                for tensor, value in reversed(self._replaced):
                    tensor.copy_(value)
            vars(self).update(before)
            raise
        outer = before["_replaced"]
        if outer is not None:
            outer.extend(self._replaced)
        self._replaced = outer

    @contextmanager
    def _looking(self) -> Iterator[None]:
        owner = getattr(self.function, "__self__", self.function)  # of a bound method
        known = (owner,) if isinstance(owner, nn.Module) else ()
        with (
            calling_modules(self._move, *known) as modules,
            kept_buffers(*known),
            kept_random_state(self.device),
            self.creating,
        ):
            yield
        parts = {part for module in modules for part in module.children()}
        self._roots = [module for module in modules if module not in parts]
        self.is_known = True
        self._forget(self.parameters)
        if self._loaded is not None:
            self._check_left(self._loaded["parameters"])
        self._fill_others()

    def functions(self) -> list[Callable[..., Any]]:
        """All callables of the user's."""
        return [self.function]

    @property
    def modules(self) -> list[nn.Module]:
        """The modules called in the first run, with the parts that they have now."""
        return list(dict.fromkeys(part for root in self._roots for part in root.modules()))

    def buffers(self) -> list[Tensor]:
        """The buffers of these modules, such as batch statistics."""
        return [buffer for module in self.modules for buffer in module.buffers(recurse=False)]

    def trainable(self) -> list[str]:
        """The names of the parameters that are not frozen."""
        return [name for name, parameter in self.parameters.items() if parameter.requires_grad]

    def decaying(self) -> set[Tensor]:
        """The parameters of modules that ask for weight decay by an attribute `decays = True`."""
        modules = [module for module in self.modules if getattr(module, "decays", False) is True]
        return {parameter for module in modules for parameter in module.parameters()}

    def saturating(self) -> set[Tensor]:
        """The weights of its modules, of at least two dimensions, where what it draws saturates."""
        modules = self.modules if self.saturates else []
        return {parameter for module in modules for parameter in module.parameters() if parameter.dim() > 1}

    def numbers(self) -> set[Tensor]:
        """The parameters that are plain numbers, or vectors of such, and no part of a module, as by `pyro.param`."""
        of_modules = {parameter for module in self.modules for parameter in module.parameters()}
        return {each for each in self.parameters.values() if each.dim() <= 1 and each not in of_modules}

    def state_dict(self) -> dict[str, Any]:
        """Copies of the parameters by name, and of all else that the modules hold: buffers and what is left out."""
        self.settle()
        built = {"built": self.function.built()} if hasattr(self.function, "built") else {}
        return {
            "parameters": {name: parameter.detach().clone() for name, parameter in self.parameters.items()},
            "others": [tensor.detach().clone() for tensor in self._others()],
            **built,
        }

    def names_in_state(self) -> set[str]:
        """What every state consists of; that of a network that builds itself also tells what it is like."""
        return {"parameters", "others"}

    def read(self, state: dict[str, Any]) -> None:
        """Read a state and take nothing over; whatever error comes tells that it is none."""
        tensors = [*state["parameters"].values(), *state["others"]]
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise TypeError("a state's parameters and buffers are tensors")
        if set(state) - {"built"} != self.names_in_state():
            raise KeyError("a state has a part too many or too few")
        for look in (state.get("built") or {}).values():
            dict(look)

    def check_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse a state that does not fit, as far as the player is known.

        Raises:
            ValueError: The state lacks a parameter, or has it or a buffer in another shape.
        """
        for name, parameter in self.parameters.items():
            _check_same(name, parameter, state["parameters"])
        if self.is_known:
            self._check_left(state["parameters"])
            _check_others(self._others(), self._with_later_buffers(state["others"]))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state: at once, or, before the first run, as the parameters appear.

        Raises:
            ValueError: As in :meth:`check_state_dict`.
        """
        self.check_state_dict(state)
        self._loaded = {"parameters": dict(state["parameters"]), "others": state["others"]}
        if hasattr(self.function, "build_as"):
            self.function.build_as(state.get("built"))
        for name, parameter in list(self.parameters.items()):
            self.fill(name, parameter)
        self.settle()

    def settle(self) -> None:
        """Fill in loaded buffers for good: what runs for a look, or to sample, puts buffers back as they were."""
        if self._loaded is not None and self.is_known:
            self._fill_others()
            self._loaded.pop("others", None)

    def fill(self, name: str, parameter: Tensor) -> bool:
        """Give a parameter its place on the device and its loaded value, if any; tell whether that changed it."""
        self.parameters[name] = parameter
        moves = self.move and parameter.device != self.device
        if moves:
            parameter.data = parameter.data.to(self.device)
        if self._loaded is None or (self.is_known and name not in self._loaded["parameters"]):
            return moves
        _check_same(name, parameter, self._loaded["parameters"])
        self._check_own(name, parameter, self._loaded["parameters"][name])
        self._assign(parameter, self._loaded["parameters"][name])
        if self.is_known:
            self._forget([name])
        return True

    def __getstate__(self) -> dict[str, Any]:
        """A copy meets its networks and parameters anew, which may be others, and then takes over their values."""
        loaded = self._loaded
        if self.is_known:
            found = Player.state_dict(self)
            loaded = {"parameters": found["parameters"], "others": found["others"]}
        unknown = {"is_known": False, "parameters": {}, "_roots": [], "_shared": {}, "_replaced": None}
        return {**vars(self), **unknown, "_loaded": loaded}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(copy.deepcopy(self.__getstate__(), memo))
        twin._shared, twin.takes_over = dict(self.parameters), False
        return twin

    def _forget(self, names: Iterable[str]) -> None:
        """Let go of loaded values that have been filled in; a first run that fails keeps them for the next."""
        for name in names:
            if self._loaded is not None:
                self._loaded["parameters"].pop(name, None)

    def _move(self, module: nn.Module) -> None:
        check_works_on(module, self.device)
        if self.move:
            module.to(self.device)

    def _others(self) -> list[Tensor]:
        """The modules' buffers, and their parameters that are not trained."""
        trained = {id(parameter) for parameter in self.parameters.values()}
        tensors = [
            tensor
            for module in self.modules
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
        ]
        return [tensor for tensor in tensors if id(tensor) not in trained]

    def _fill_others(self) -> None:
        """Give the modules' other tensors their loaded values, again and again until they are settled."""
        if self._loaded is None or "others" not in self._loaded:
            return
        others, loaded = self._others(), self._with_later_buffers(self._loaded["others"])
        _check_others(others, loaded)
        for tensor, value in zip(others, loaded, strict=True):
            self._assign(tensor, value)

    def _with_later_buffers(self, loaded: list[Tensor]) -> list[Tensor]:
        """A state's buffers; those that a module's class came to have later have the values that it names."""
        others = self._others()
        for first in FORMATS:
            later = {
                id(module.get_buffer(name)): value
                for module in self.modules
                for name, value in getattr(module, "later_buffers", {}).items()
                if getattr(module, "later_format", 0) >= first
            }
            if len(loaded) + len(later) == len(others):
                rest = iter(loaded)
                return [_filled(each, later[id(each)]) if id(each) in later else next(rest) for each in others]
        return loaded

    def _check_own(self, name: str, parameter: Tensor, value: Tensor) -> None:
        """Refuse to put another inference's parameters back by a question to a copy.

        Raises:
            ValueError: A parameter is shared and has been trained since.
        """
        if not self.takes_over and self._shared.get(name) is parameter and not torch.equal(parameter, value):
            raise ValueError(
                f"this inference is a copy, and the parameter {name!r} of its model is that of the one it was copied "
                "from, which has been trained since: a question to the copy would put it back. Keep what is to be "
                "asked later by state_dict() or KeepBest, or take a step with the copy first, which goes on from its "
                "own values."
            )

    @torch.no_grad()
    def _assign(self, tensor: Tensor, value: Tensor) -> None:
        if self._replaced is not None:
            self._replaced.append((tensor, tensor.detach().clone()))
        tensor.copy_(value)

    def _check_left(self, names: Iterable[str]) -> None:
        """Refuse parameters of a state that this player has not, as far as that is certain.

        A number that a model registers may appear later; a module registers all of its parameters at once.

        Raises:
            ValueError: There are some.
        """
        modules = {name.partition("$$$")[0] for name in self.parameters if "$$$" in name}
        own = dict(self.function.named_parameters()) if isinstance(self.function, nn.Module) else None
        for name in names:
            is_of_a_module = name.partition("$$$")[0] in modules if "$$$" in name else own is not None
            if name not in self.parameters and is_of_a_module and (own is None or name not in own):
                there = ", ".join(map(repr, self.parameters))
                raise ValueError(
                    f"the state has a parameter {name!r} that there is no place for: there are {there}. "
                    "Load it into the model and discriminator that it was saved from."
                )


def fill_in(module: Any, state_dict: dict[str, Any], prefix: str) -> None:
    """Give a module's part of a state the buffers that the module's class came to have later.

    Args:
        module: The module, which names them by `later_buffers`.
        state_dict: The state.
        prefix: What the names of the module's part begin with.
    """
    for name, value in module.later_buffers.items():
        state_dict.setdefault(prefix + name, _filled(module.get_buffer(name), value))


def _filled(tensor: Tensor, value: Any) -> Tensor:
    return torch.as_tensor(value).to(tensor).expand_as(tensor).clone()


def are_written(copies: Iterable[Any]) -> bool:
    """Whether any of some fresh tensors has been written to since it was made by an operation."""
    return any(isinstance(value, Tensor) and value._version > 0 for value in copies)


def _check_others(others: list[Tensor], loaded: list[Tensor]) -> None:
    if len(others) > len(loaded) and any(tensor.requires_grad for tensor in others):
        raise ValueError(
            "the networks that are called are not those that Pyro's store has under their names, as in a deep copy of "
            "a model that is a module: their parameters are unknown. Call pyro.clear_param_store() first, after which "
            "the store has these."
        )
    shapes, loaded_shapes = ([tuple(tensor.shape) for tensor in tensors] for tensors in (others, loaded))
    if shapes != loaded_shapes:
        raise ValueError(
            f"the state holds buffers of shapes {loaded_shapes}, but the modules have {shapes}. "
            "Load it into the model and discriminator that it was saved from."
        )


def _check_same(name: str, parameter: Tensor, loaded: dict[str, Tensor]) -> None:
    if name not in loaded:
        raise ValueError(
            f"the state has no parameter {name!r}; it has {listed(loaded) or 'none'}. "
            "Load it into the model and discriminator that it was saved from."
        )
    if loaded[name].shape != parameter.shape:
        raise ValueError(
            f"the state's parameter {name!r} has shape {tuple(loaded[name].shape)}, "
            f"but the one to load it into has {tuple(parameter.shape)}. Build the same networks."
        )
