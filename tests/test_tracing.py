"""Random numbers of compiled code: those that torch draws, whatever draws them."""

import pytest
import torch
from models import DEVICE
from torch.nn.functional import dropout

from pyro_gan.training.step import Gradients
from pyro_gan.training.streams import random_states
from pyro_gan.training.tracing import inductor, traced

DRAWS = {
    "bernoulli": torch.bernoulli,
    "bernoulli, transposed": lambda p: torch.bernoulli(p.view(20, 10).t()).flatten(),
    "bernoulli, expanded": lambda p: torch.bernoulli(p[:10, None].expand(10, 20).t()).flatten(),
    "bernoulli, in half precision": lambda p: torch.bernoulli(p.bfloat16()).to(p.dtype),
    "bernoulli, in place": lambda p: torch.empty_like(p).bernoulli_(p),
    "bernoulli, of a number": lambda p: torch.bernoulli(p, 0.3),
    "bernoulli, of a number in place": lambda p: torch.empty_like(p).bernoulli_(0.3),
    "cauchy": lambda p: torch.empty_like(p).cauchy_(),
    "dropout": lambda p: dropout(p, 0.3),
    "exponential": lambda p: torch.empty_like(p).exponential_(),
    "gamma": torch._standard_gamma,
    "geometric": lambda p: torch.empty_like(p).geometric_(0.3),
    "log-normal": lambda p: torch.empty_like(p).log_normal_(),
    "multinomial": lambda p: torch.multinomial(p, 5).to(p.dtype),
    "normal": lambda p: torch.normal(p, p),
    "poisson": torch.poisson,
    "rand": lambda p: torch.rand(p.shape, dtype=p.dtype, device=p.device),
    "randint": lambda p: torch.randint(9, p.shape, device=p.device).to(p.dtype),
    "randn": torch.randn_like,
    "uniform": lambda p: torch.empty_like(p).uniform_(1, 2),
}


def all_draws(batch):
    """Draws by all, as if they were a loss's and the gradients' numbers."""
    (probabilities,) = batch
    return Gradients({}, (), torch.cat([draw(probabilities) for draw in DRAWS.values()]))


@pytest.mark.filterwarnings("ignore")  # of torch, as it compiles
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_code_draws_as_torch_does_and_leaves_its_random_state(dtype):
    device = torch.device(DEVICE or "cpu")
    probabilities = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=dtype).to(device)
    torch.manual_seed(0)
    expected = all_draws((probabilities,)).loss.split([5 if name == "multinomial" else 200 for name in DRAWS])
    end = random_states(device)
    trace = traced(all_draws, (probabilities,))
    call = inductor(trace.graph, [*trace.live, probabilities])
    torch.manual_seed(0)
    found = call(*trace.live, probabilities)[0].split([len(each) for each in expected])
    differing = [
        name for name, one, other in zip(DRAWS, found, expected, strict=True) if not torch.allclose(one, other)
    ]
    assert not differing
    assert not random_states(device).has_drawn_by_torch(end)
