import re

import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_gan.players.devices import calling_modules, creating_on, resolve_device

CPU = torch.device("cpu")
META = torch.device("meta")
IS_AVAILABLE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
AVAILABLE = [name for name, is_available in IS_AVAILABLE.items() if is_available]
UNAVAILABLE = [name for name, is_available in IS_AVAILABLE.items() if not is_available]


@pytest.mark.parametrize(
    "discriminator",
    [None, lambda x: x, nn.ReLU(), nn.Linear(1, 1)],
    ids=["nothing", "function", "module without parameters", "module with parameters"],
)
def test_no_choice_takes_the_default_device_or_that_of_the_parameters(discriminator):
    assert resolve_device(None, discriminator) == CPU


def test_no_choice_takes_the_device_of_the_discriminators_parameters():
    assert resolve_device(None, nn.Sequential(nn.ReLU(), nn.Linear(1, 1, device="meta"))) == META


def test_no_choice_takes_torchs_default_device_where_the_discriminator_has_no_parameters():
    with META:
        assert resolve_device(None, nn.ReLU()) == META


@pytest.mark.parametrize(
    "choice, expected", [("cpu", CPU), (CPU, CPU), ("meta", META), (META, META), *((n, n + ":0") for n in AVAILABLE)]
)
def test_a_choice_is_the_device_as_tensors_name_it(choice, expected):
    device = resolve_device(choice, nn.Linear(1, 1))
    assert device == torch.device(expected)
    assert torch.empty(0, device=device).device == device


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu,cuda"])
def test_nonsense_name_is_refused(name):
    with pytest.raises(ValueError, match=rf"device={re.escape(repr(name))} names no device; use 'cpu', 'cuda'"):
        resolve_device(name, None)


@pytest.mark.parametrize("name", UNAVAILABLE)
@pytest.mark.parametrize("kind", [str, torch.device])
def test_device_that_is_not_there_is_refused(name, kind):
    with pytest.raises(ValueError, match=rf"device='{name}' is not available here. Use device='cpu', or a torch build"):
        resolve_device(kind(name), None)


def test_index_beyond_the_devices_there_is_refused():
    count = torch.cuda.device_count()
    with pytest.raises(
        ValueError, match=rf"device='cuda:{count}' is not available here. Use device='cpu', or a torch build"
    ):
        resolve_device(f"cuda:{count}", None)


@pytest.mark.parametrize("choice", [0, 1.5, ["cpu"], torch.float32])
def test_choice_of_another_type_is_refused(choice):
    with pytest.raises(TypeError, match=rf"must be a string such as 'cuda'.*but is {re.escape(repr(choice))}"):
        resolve_device(choice, None)


def test_distributions_of_plain_numbers_draw_on_the_device():
    with creating_on(META):
        noise = dist.Uniform(-1.0, 1.0, validate_args=False).sample()  # a meta tensor has no values to check
        rows = torch.randn(3)
    assert (noise.device, rows.device) == (META, META)
    assert torch.randn(3).device == CPU


def test_creating_on_the_default_device_changes_nothing():
    with creating_on(CPU):
        assert dist.Uniform(-1.0, 1.0).sample().device == CPU


def test_creating_on_goes_back_to_the_cpu_inside_another_default():
    with META, creating_on(CPU):
        assert torch.zeros(1).device == CPU


def test_called_modules_are_listed_once_in_the_order_of_their_first_call():
    first, second, unused = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2)
    x = torch.ones(1, 2)
    passed: list[nn.Module] = []
    with calling_modules(passed.append) as modules:
        second(first(x))
        first(second(x))
    assert modules == [first, second, second[0], second[1]]
    assert passed == modules
    assert unused not in modules


def test_modules_are_passed_on_before_they_run():
    def double(module: nn.Module) -> None:
        with torch.no_grad():
            module.weight.mul_(2)

    net = nn.Linear(2, 1, bias=False)
    nn.init.ones_(net.weight)
    with calling_modules(double):
        results = [net(torch.ones(1, 2)).item() for _ in range(2)]
    assert results == [4.0, 4.0]


def test_modules_of_equal_content_are_told_apart():
    net = nn.Linear(1, 1)
    twin = nn.Linear(1, 1)
    twin.load_state_dict(net.state_dict())
    with calling_modules(lambda module: None) as modules:
        net(torch.ones(1, 1)), twin(torch.ones(1, 1))
    assert len(modules) == 2


def test_calls_after_the_context_are_not_seen():
    passed: list[nn.Module] = []
    with calling_modules(passed.append) as modules:
        pass
    nn.ReLU()(torch.ones(1))
    assert (passed, modules) == ([], [])


def test_calls_after_an_exception_in_the_context_are_not_seen():
    passed: list[nn.Module] = []
    net = nn.ReLU()
    with pytest.raises(ZeroDivisionError), calling_modules(passed.append):
        net(torch.ones(1))
        raise ZeroDivisionError
    nn.Linear(1, 1)(torch.ones(1, 1))
    assert passed == [net]


def test_calls_after_a_failing_callback_are_not_seen():
    def fail(module: nn.Module) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), calling_modules(fail):
        nn.ReLU()(torch.ones(1))
    assert nn.ReLU()(torch.ones(1)).item() == 1.0


def test_contexts_can_be_nested():
    outer_net, inner_net = nn.ReLU(), nn.Tanh()
    with calling_modules(lambda module: None) as outer:
        outer_net(torch.ones(1))
        with calling_modules(lambda module: None) as inner:
            inner_net(torch.ones(1))
        outer_net(torch.ones(1))
    assert outer == [outer_net, inner_net]
    assert inner == [inner_net]
