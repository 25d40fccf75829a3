"""Observations of any kind, as a module of the user's makes features of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_gan.auto.views import View


class Embedded(View):
    """Rows of any kind that a module of the user's makes features of.

    Args:
        name: The site's name.
        mask: The mask's name, where there is one.
        module: The user's module, called with the rows, and with the mask where there is one.
        rows: The first rows by name.
        dtype: The features' type.
        role: What has the site, for messages.
        is_free: Whether rows may have any length.
        trains: Whether the module's parameters are trained here; else they are another network's.
        mask_dims: As of :meth:`View.meet`.

    Raises:
        ValueError: The module returns something else than a vector of features a row.
    """

    def __init__(
        self,
        name: str,
        mask: str | None,
        module: nn.Module,
        rows: Mapping[str, Tensor],
        dtype: torch.dtype,
        role: str,
        is_free: bool,
        trains: bool,
        mask_dims: int | None = None,
    ) -> None:
        super().__init__(name, mask, num_free=int(is_free))
        self.meet(rows, role, mask_dims)
        self.dtype = dtype
        self._others: tuple[nn.Module, ...] = () if trains else (module,)  # in a tuple, or its parameters were ours
        if trains:
            self.module = module
        first = {key: value[:2] for key, value in rows.items() if value.dim()}
        self.shape = tuple(self(first).shape[1:])

    def seen(self, values: Tensor, mask: Tensor) -> Tensor:
        module = self._others[0] if self._others else self.module
        if values.is_floating_point():  # NumPy's default is double, torch's single precision
            values = values.to(next((leaf.dtype for leaf in module.parameters()), self.dtype))
        args = (values,) if self.mask is None else (values, mask)
        if self._others:
            fixed = {name: leaf.detach() for name, leaf in module.named_parameters()}
            features = torch.func.functional_call(module, fixed, args)
        else:
            features = module(*args)
        if not isinstance(features, Tensor):
            raise TypeError(
                f"embedding of {self.name!r} must return a tensor of features with shape (num_rows, num_features), but "
                f"returned a {type(features).__name__}. Return the features alone."
            )
        if features.dim() != 2 or len(features) != len(values):
            raise ValueError(
                f"embedding of {self.name!r} must return features with shape ({len(values)}, num_features) for rows "
                f"with shape {tuple(values.shape)}, but returned shape {tuple(features.shape)}. Let it pool over all "
                "else, and keep one vector a row."
            )
        return features.to(self.dtype)

    def extra_repr(self) -> str:
        return f"{self.name!r}, embedded{' by what the guide trains' if self._others else ''}"
