"""What the processes of test_distributed.py run: `python -m torch.distributed.run ... tests/ranks.py NAME FOLDER`.

Each scenario is also called by one process alone, which it is compared with.
"""

import os
import sys
from pathlib import Path

import pyro
import torch
from test_contract import CASES, DATA, MODELS, values
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_gan import processes
from pyro_gan.penalties import R1, GradientPenalty, WeightClipping

NUM_ROWS, NUM_STEPS = 128, 50
PENALTIES = {
    "default": {},
    "R1": {"penalty": lambda: R1(1.0)},
    "gradient penalty": {"penalty": lambda: GradientPenalty(1.0)},
    "weight clipping": {"penalty": lambda: WeightClipping(0.05)},
}
EQUAL = [(case, penalty) for case in CASES for penalty in PENALTIES]


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


def place():
    """Which process this is, and of how many."""
    found = processes.found()
    return (0, 1) if found is None else (found.rank, found.size)


def minibatches():
    """The rows of this process in each step."""
    rank, size = place()
    part = NUM_ROWS // size
    step = 0
    while True:
        rows = DATA[(step * NUM_ROWS) % 3968 :][:NUM_ROWS]
        yield rows[part * rank : part * (rank + 1)]
        step += 1


def trained(case, penalty, start=None, **options):
    """The parameters after 50 steps on minibatches of 128 rows of all processes, and the state at their beginning.

    Networks build themselves by draws, and what those are hangs on how many there are; so all begin at one state.
    """
    given = {name: make() for name, make in PENALTIES[penalty].items()}
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    inference = CASES[case].build(MODELS["model(x)"], **given)
    inference.run(minibatches(), num_steps=1, progress=False)
    start = inference.state_dict() if start is None else start
    inference.load_state_dict(start)
    with SharedNoise(*place()):
        inference.run(minibatches(), num_steps=NUM_STEPS, progress=False, **options)
    return values(inference), start


def equal(folder):
    """The parameters of all cases and penalties, from the states that one process has written."""
    starts = torch.load(folder / "starts.pt")
    return {name: trained(*name.split(", "), start)[0] for name, start in starts.items()}


def main(name, folder):
    found = globals()[name](Path(folder))
    if place()[0] == 0:
        torch.save(found, Path(folder) / f"{name}.pt")


if __name__ == "__main__":
    if "PYRO_GAN_TEST_DOUBLE" in os.environ:
        torch.set_default_dtype(torch.float64)
        DATA = DATA.double()
    main(*sys.argv[1:])
