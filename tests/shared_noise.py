"""One generator's noise for the rows of many processes, so that they can be compared with one."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class SharedNoise(TorchDispatchMode):
    """Draws noise for the rows of all processes from one generator, of which each takes the part of its own rows.

    So the noise of two processes of 64 rows is that of one of 128, row by row. Weights begin with other random numbers:
    they are parameters.
    """

    def __init__(self, rank, size):
        super().__init__()
        self.rank, self.size = rank, size
        self.generator = torch.Generator().manual_seed(0)

    def own(self, shape, dtype, draw):
        if not shape:
            return draw([], dtype)
        return draw([shape[0] * self.size, *shape[1:]], dtype)[
            shape[0] * self.rank : shape[0] * (self.rank + 1)
        ].clone()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.name().removeprefix("aten::").partition(".")[0]

        def normal(shape, dtype):
            return torch.randn(shape, generator=self.generator, dtype=dtype)

        def uniform(shape, dtype):
            return torch.rand(shape, generator=self.generator, dtype=dtype)

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
