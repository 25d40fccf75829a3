"""The same noise for the rows of many processes as for those of one, so that they can be compared."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class SharedNoise(TorchDispatchMode):
    """Draws noise for the rows of all processes, of which each takes the part of its own rows.

    So the noise of two processes of 64 rows is that of one of 128, row by row, where their generators have one state.
    Compiled gradients hold the draws for all rows, which are left as they are. Weights begin with other random numbers:
    they are parameters.

    Args:
        rank: Which process this is.
        size: How many there are.
        num_rows: The rows of all their minibatches.
    """

    def __init__(self, rank, size, num_rows):
        super().__init__()
        self.size, self.num_rows = size, num_rows
        self.own_rows = slice(num_rows * rank // size, num_rows * (rank + 1) // size)

    def own(self, shape, dtype, draw):
        if self.size == 1 or not shape or shape[0] != self.num_rows // self.size:
            return draw(shape, dtype)
        return draw([self.num_rows, *shape[1:]], dtype)[self.own_rows].clone()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.name().removeprefix("aten::").partition(".")[0]

        def normal(shape, dtype):
            return torch.randn(shape, dtype=dtype)

        def uniform(shape, dtype):
            return torch.rand(shape, dtype=dtype)

        dtype = kwargs.get("dtype") or torch.get_default_dtype()
        if name == "rand":
            return self.own(args[0], dtype, uniform)
        if name == "randn":
            return self.own(args[0], dtype, normal)
        if name == "normal" and all(isinstance(each, torch.Tensor) for each in args[:2]):
            return args[0] + args[1] * self.own(args[0].shape, args[0].dtype, normal)
        if name in ("randn_like", "rand_like"):
            return self.own(args[0].shape, args[0].dtype, normal if "n" in name[:5] else uniform)
        if isinstance(args[0] if args else None, torch.nn.Parameter):
            return function(*args, **kwargs)
        if name == "normal_":
            return args[0].copy_(self.own(args[0].shape, args[0].dtype, normal))
        if name == "uniform_":
            low, high = args[1:3] if len(args) > 2 else (0.0, 1.0)
            return args[0].copy_(low + (high - low) * self.own(args[0].shape, args[0].dtype, uniform))
        if "bernoulli" in name or "multinomial" in name or "poisson" in name:
            raise NotImplementedError(name)
        return function(*args, **kwargs)
