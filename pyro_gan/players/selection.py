"""Which of the parameters are trained, by name."""

from collections.abc import Iterable, Sequence

from pyro.params.param_store import normalize_param_name

from pyro_gan.checks import shown


class Selection:
    """A choice among the generator's parameters (Edward's `var_list`).

    A name is that of Pyro's parameter store, or the beginning of some up to a dot: of `pyro.module("generator", ...)`,
    `"generator"` names all parameters and `"generator.0"` those of its first layer.

    Args:
        only: The names of the parameters to train; `None` stands for all.
        exclude: The names of those not to train.

    Raises:
        TypeError: One of them is not a name or a list of names.
    """

    def __init__(self, only: str | Sequence[str] | None, exclude: str | Sequence[str]) -> None:
        self.only = None if only is None else _names("only", only)
        self.exclude = _names("exclude", exclude)

    def __contains__(self, name: str) -> bool:
        is_asked_for = self.only is None or any(_covers(prefix, name) for prefix in self.only)
        return is_asked_for and not any(_covers(prefix, name) for prefix in self.exclude)

    def __bool__(self) -> bool:
        return self.only is not None or bool(self.exclude)

    def check(self, names: Iterable[str]) -> None:
        """Refuse a choice that names an unknown parameter, or leaves none.

        Raises:
            ValueError: It does; the message has the names that there are.
        """
        there = list(names)
        for argument, prefixes in ("only", self.only or ()), ("exclude", self.exclude):
            for prefix in prefixes:
                if not any(_covers(prefix, name) for name in there):
                    raise ValueError(
                        f"{argument} names {shown(prefix)}, but there is no such parameter: there are "
                        f"{', '.join(repr(normalize_param_name(name)) for name in there)}. Use these names or the "
                        "part before a dot."
                    )
        if there and not any(name in self for name in there):
            raise ValueError("only and exclude leave no parameter to train. Leave at least one.")


def _names(argument: str, value: str | Sequence[str]) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be a parameter's name or a list of names, but is {shown(value)}.")
    return tuple(map(normalize_param_name, names))


def _covers(prefix: str, name: str) -> bool:
    name = normalize_param_name(name)
    return name == prefix or name.startswith(prefix + ".")
