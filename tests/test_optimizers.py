import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pytest
import torch
from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, ReduceLROnPlateau, StepLR

from pyro_gan.recipes import default_optimizer
from pyro_gan.training.optimizers import PlayerOptimizer

Gradients = dict[str, Tensor]


@pytest.fixture(autouse=True)
def param_store() -> Iterator[None]:
    with pyro.get_param_store().scope():
        yield


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, requires_grad=True)


def optimizer_of(choice: Any = None, clip_norm: float | None = None, **parameters: Tensor) -> PlayerOptimizer:
    player = PlayerOptimizer(choice, "optim", clip_norm)
    player.meet(parameters)
    return player


def descend(player: PlayerOptimizer, loss: Tensor, parameters: list[Tensor]) -> None:
    """One update along the gradient of a loss."""
    player.update(parameters, torch.autograd.grad(loss, parameters, allow_unused=True) if parameters else [])


def update(player: PlayerOptimizer, parameters: dict[str, Tensor], gradients: Gradients) -> None:
    """One update on a loss that is linear in the parameters, so that its gradient is the given one."""
    loss = torch.stack([(parameters[name] * gradient).sum() for name, gradient in gradients.items()]).sum()
    descend(player, loss, [parameters[name] for name in gradients])


def random_gradients(number: int) -> list[Gradients]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"net$$$weight": torch.randn(2, 3, generator=generator), "net$$$bias": 3 * torch.randn(2, generator=generator)}
        for _ in range(number)
    ]


def starting_values() -> dict[str, Tensor]:
    return {"net$$$weight": torch.linspace(-1.0, 1.0, 6).reshape(2, 3), "net$$$bias": torch.ones(2)}


def with_own_rate(name: str) -> dict[str, Any]:
    """One argument: the full name, as `nn.Module.named_parameters` has it."""
    assert name in ("net.weight", "net.bias")
    return {"lr": 0.1 if name.endswith("bias") else 0.01}


def with_own_rate_by_module(module: str, name: str) -> dict[str, Any]:
    """Two arguments: the module's name and the parameter's within it."""
    assert (module, name) in (("net", "weight"), ("net", "bias"))
    return {"lr": 0.1 if name == "bias" else 0.01}


def clip_the_bias(module: str, name: str) -> dict[str, float]:
    assert module == "net"
    return {"clip_norm": 0.5} if name == "bias" else {}


def scheduled_adam(parameters: Any) -> LambdaLR:
    return LambdaLR(torch.optim.Adam(parameters, lr=0.1), lambda step: 1 / (1 + step))


TORCH_CHOICES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam itself": torch.optim.Adam,
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}
PYRO_CHOICES: dict[str, Callable[[], PyroOptim]] = {
    "Adam": lambda: pyro.optim.Adam({"lr": 0.05, "betas": (0.5, 0.999)}),
    "SGD": lambda: pyro.optim.SGD({"lr": 0.05, "momentum": 0.9}),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.05, "clip_norm": 0.5, "lrd": 0.9}),
    "AdagradRMSProp": lambda: pyro.optim.AdagradRMSProp({"eta": 0.1}),
    "clip_norm": lambda: pyro.optim.SGD({"lr": 0.1}, {"clip_norm": 0.5}),
    "clip_value": lambda: pyro.optim.SGD({"lr": 0.1}, {"clip_value": 0.5}),
    "both clips": lambda: pyro.optim.SGD({"lr": 0.1}, {"clip_norm": 1.0, "clip_value": 0.5}),
    "clip callable": lambda: pyro.optim.SGD({"lr": 0.1}, clip_the_bias),
    "one argument": lambda: pyro.optim.Adam(with_own_rate),
    "two arguments": lambda: pyro.optim.Adam(with_own_rate_by_module),
}
PYRO_SCHEDULES: dict[str, Callable[[], PyroOptim]] = {
    "ExponentialLR": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}, "gamma": 0.5}
    ),
    "StepLR": lambda: pyro.optim.StepLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "step_size": 2, "gamma": 0.1}
    ),
    "callable rates": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": with_own_rate, "gamma": 0.7}
    ),
    "clipped": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}, "gamma": 0.5}, {"clip_norm": 0.5}
    ),
}
ALL_CHOICES: dict[str, Callable[[], Any]] = {
    "default": lambda: None,
    **{f"torch {name}": lambda choice=choice: choice for name, choice in TORCH_CHOICES.items()},
    "torch schedule": lambda: scheduled_adam,
    **{f"pyro {name}": choice for name, choice in PYRO_CHOICES.items()},
    **{f"pyro {name}": choice for name, choice in PYRO_SCHEDULES.items()},
}


def test_default_is_fused_adam_without_momentum():
    made = default_optimizer([leaf(1.0)])
    assert type(made) is torch.optim.AdamW
    (group,) = made.param_groups
    assert (group["lr"], group["betas"], group["fused"]) == (2e-3, (0.0, 0.99), True)
    assert (group["weight_decay"], group["amsgrad"]) == (0, False)


def test_decaying_parameters_lose_a_part_of_their_value_and_others_none():
    """The loss depends on neither, so that Adam itself moves nothing."""
    steady, decaying, late = leaf(1.0), leaf(1.0), leaf(1.0)
    player = PlayerOptimizer(None, "optim")
    player.meet({"steady": steady, "decaying": decaying}, {decaying, late})
    update(player, {"steady": steady, "decaying": decaying}, dict.fromkeys(("steady", "decaying"), torch.tensor(0.0)))
    assert (steady.item(), decaying.item()) == (1.0, pytest.approx(1 - 0.3 * 2e-3))
    player.meet({"steady": steady, "decaying": decaying, "late": late}, {decaying, late})
    player.set_progress(0.75)
    update(player, {"decaying": decaying, "late": late}, dict.fromkeys(("decaying", "late"), torch.tensor(0.0)))
    assert (decaying.item(), late.item()) == pytest.approx(((1 - 0.3 * 2e-3) * (1 - 0.3 * 1e-3), 1 - 0.3 * 1e-3))
    assert len(player.optimizer.param_groups) == 2


def test_an_optimizer_that_the_user_chose_decays_as_it_says():
    weight = leaf(1.0)
    player = PlayerOptimizer(torch.optim.Adam, "optim")
    player.meet({"weight": weight}, {weight})
    update(player, {"weight": weight}, {"weight": torch.tensor(0.0)})
    assert weight.item() == 1.0


def test_no_choice_is_the_default_optimizer():
    parameters = {name: value.requires_grad_() for name, value in starting_values().items()}
    expected = [value.detach().clone().requires_grad_() for value in parameters.values()]
    adam = torch.optim.Adam(expected, lr=2e-3, betas=(0.0, 0.99))
    player = optimizer_of(None, **parameters)
    for gradients in random_gradients(5):
        update(player, parameters, gradients)
        for parameter, gradient in zip(expected, gradients.values(), strict=True):
            parameter.grad = gradient
        adam.step()
    for parameter, value in zip(parameters.values(), expected, strict=True):
        torch.testing.assert_close(parameter, value)


def test_first_step_of_the_default_is_a_rate_against_the_gradients_sign():
    # Adam's first step is lr * gradient / (|gradient| + eps).
    x = leaf(1.0, 2.0, 3.0)
    update(optimizer_of(x=x), {"x": x}, {"x": torch.tensor([5.0, -0.01, 0.0])})
    torch.testing.assert_close(x.detach(), torch.tensor([0.998, 2.002, 3.0]))


@pytest.mark.parametrize("choice", TORCH_CHOICES.values(), ids=TORCH_CHOICES)
def test_torch_optimizer_does_what_it_does_on_its_own(choice):
    parameters = {name: value.requires_grad_() for name, value in starting_values().items()}
    expected = [value.detach().clone().requires_grad_() for value in parameters.values()]
    alone = choice(expected)
    player = optimizer_of(choice, **parameters)
    for gradients in random_gradients(5):
        update(player, parameters, gradients)
        for parameter, gradient in zip(expected, gradients.values(), strict=True):
            parameter.grad = gradient
        alone.step()
    for parameter, value in zip(parameters.values(), expected, strict=True):
        assert torch.equal(parameter, value)


def test_update_descends_the_loss_it_is_given():
    x = leaf(3.0, -1.0)
    player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=0.25), x=x)
    descend(player, (x**2).sum(), [x])
    assert x.tolist() == [1.5, -0.5]  # x - 0.25 * 2 x
    descend(player, (x**2).sum(), [x])
    assert x.tolist() == [0.75, -0.25]


def test_gradients_are_not_summed_over_updates():
    x = leaf(0.0)
    player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=1.0), x=x)
    for _ in range(3):
        descend(player, x.sum(), [x])
    assert x.item() == -3.0


def test_other_leaves_of_the_graph_get_no_gradient():
    own, opponent = leaf(1.0), leaf(2.0)
    player = optimizer_of(own=own)
    descend(player, (own * opponent).sum(), [own])
    assert own.grad.item() == 2.0
    assert opponent.grad is None
    assert opponent.item() == 2.0


def test_known_parameters_that_are_not_given_do_not_move():
    x, y = leaf(1.0), leaf(1.0)
    player = optimizer_of(x=x, y=y)
    descend(player, (x * y).sum(), [x, y])
    moved = y.item()
    descend(player, (x * y).sum(), [x])
    assert y.grad is None
    assert y.item() == moved != 1.0
    assert x.grad.item() == moved


@pytest.mark.parametrize("value", [None, 0.3])
def test_gradient_left_by_others_has_no_part(value):
    x, expected = leaf(1.0), leaf(1.0)
    x.grad = None if value is None else torch.tensor([value])
    for parameter in (x, expected):
        player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=0.1), x=parameter)
        descend(player, (parameter**3).sum(), [parameter])
    assert torch.equal(x, expected)


def test_knows_the_parameters_it_has_met():
    x, y = leaf(1.0), leaf(1.0)
    player = PlayerOptimizer(None, "optim")
    assert not player.knows([x])
    player.meet({"x": x})
    assert player.knows([x])
    assert not player.knows([x, y])
    assert not player.knows([leaf(1.0)])
    player.meet({"x": x, "y": y})
    assert player.knows([y, x])


def test_update_before_meeting_is_refused():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="parameters must be met before the first update"):
        descend(PlayerOptimizer(None, "optim"), x.sum(), [x])


@pytest.mark.parametrize(
    "schedule, rate",
    [
        (lambda optimizer: ExponentialLR(optimizer, 0.5), lambda step: 0.2 * 0.5**step),
        (lambda optimizer: StepLR(optimizer, 3, 0.1), lambda step: 0.2 * 0.1 ** (step // 3)),
        (lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step)), lambda step: 0.2 / (1 + step)),
        (lambda optimizer: CosineAnnealingLR(optimizer, 8), lambda step: 0.1 * (1 + math.cos(math.pi * step / 8))),
    ],
    ids=["exponential", "stairs", "harmonic", "cosine"],
)
def test_schedule_moves_the_rate_as_its_closed_form(schedule, rate):
    x = leaf(0.0)
    player = optimizer_of(lambda parameters: schedule(torch.optim.SGD(parameters, lr=0.2)), x=x)
    for step in range(8):
        before = x.item()
        descend(player, x.sum(), [x])
        assert before - x.item() == pytest.approx(rate(step), abs=1e-6)
        player.advance_schedule()


def test_rate_stays_where_there_is_no_schedule():
    x = leaf(0.0)
    player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=0.2), x=x)
    for _ in range(3):
        descend(player, x.sum(), [x])
        player.advance_schedule()
    assert x.item() == pytest.approx(-0.6)


def pyros_way(choice: PyroOptim, num_steps: int, meet_later: bool = False) -> dict[str, Tensor]:
    """What Pyro's optimizer, called as `SVI` calls it, makes of parameters in the store."""
    for name, value in starting_values().items():
        pyro.param(name, value)
    leaves = {name: pyro.param(name).unconstrained() for name in starting_values()}
    for step, gradients in enumerate(random_gradients(num_steps)):
        given = {"net$$$bias": leaves["net$$$bias"]} if meet_later and step < num_steps // 2 else leaves
        for name, parameter in given.items():
            parameter.grad = gradients[name].clone()
        choice(list(given.values()))
        if hasattr(choice, "step"):
            choice.step()
    return leaves


def players_way(choice: PyroOptim, num_steps: int, meet_later: bool = False) -> dict[str, Tensor]:
    leaves = {name: value.requires_grad_() for name, value in starting_values().items()}
    player = PlayerOptimizer(choice, "optim")
    for step, gradients in enumerate(random_gradients(num_steps)):
        given = {"net$$$bias": leaves["net$$$bias"]} if meet_later and step < num_steps // 2 else leaves
        player.meet(given)
        update(player, leaves, {name: gradients[name] for name in given})
        player.advance_schedule()
    return leaves


@pytest.mark.parametrize(
    "make", [*PYRO_CHOICES.values(), *PYRO_SCHEDULES.values()], ids=[*PYRO_CHOICES, *PYRO_SCHEDULES]
)
def test_pyro_optimizer_does_what_it_does_called_pyros_way(make):
    expected = pyros_way(make(), 6)
    found = players_way(make(), 6)
    for name, value in starting_values().items():
        torch.testing.assert_close(found[name], expected[name])
        assert not torch.equal(found[name], value)


@pytest.mark.parametrize("name", ["Adam", "SGD", "clip_norm", "both clips", "clip callable"])
def test_pyro_optimizer_does_what_it_does_called_pyros_way_also_with_parameters_met_later(name):
    expected = pyros_way(PYRO_CHOICES[name](), 6, meet_later=True)
    found = players_way(PYRO_CHOICES[name](), 6, meet_later=True)
    for name in starting_values():
        torch.testing.assert_close(found[name], expected[name])


@pytest.mark.parametrize("arguments", [with_own_rate, with_own_rate_by_module], ids=["one", "two"])
def test_pyro_arguments_of_each_parameter_hold_also_for_parameters_met_later(arguments):
    expected = pyros_way(pyro.optim.Adam(arguments), 6, meet_later=True)
    found = players_way(pyro.optim.Adam(arguments), 6, meet_later=True)
    for name in starting_values():
        torch.testing.assert_close(found[name], expected[name])


def test_pyro_clip_norm_clips_each_parameter_of_its_own():
    x, y = leaf(0.0, 0.0), leaf(0.0)
    player = optimizer_of(pyro.optim.SGD({"lr": 1.0}, {"clip_norm": 1.0}), x=x, y=y)
    update(player, {"x": x, "y": y}, {"x": torch.tensor([3.0, -4.0]), "y": torch.tensor([0.5])})
    torch.testing.assert_close(x.detach(), torch.tensor([-0.6, 0.8]))  # a norm of 5 becomes one of 1
    torch.testing.assert_close(y.detach(), torch.tensor([-0.5]))


def test_pyro_clip_value_clips_each_entry():
    x = leaf(0.0, 0.0, 0.0)
    player = optimizer_of(pyro.optim.SGD({"lr": 1.0}, {"clip_value": 2.0}), x=x)
    update(player, {"x": x}, {"x": torch.tensor([3.0, -4.0, 0.5])})
    assert x.tolist() == [-2.0, 2.0, -0.5]


def test_pyro_schedule_halves_the_rate():
    x = leaf(0.0)
    player = optimizer_of(PYRO_SCHEDULES["ExponentialLR"](), x=x)
    for rate in (0.1, 0.05, 0.025):
        before = x.item()
        descend(player, x.sum(), [x])
        assert before - x.item() == pytest.approx(rate)
        player.advance_schedule()


def test_clip_norm_clips_the_norm_of_the_whole_gradient():
    x, y = leaf(0.0, 0.0), leaf(0.0)
    player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=1.0), clip_norm=2.6, x=x, y=y)
    update(player, {"x": x, "y": y}, {"x": torch.tensor([3.0, -4.0]), "y": torch.tensor([12.0])})
    torch.testing.assert_close(x.detach(), torch.tensor([-0.6, 0.8]))  # a norm of 13 becomes one of 2.6
    torch.testing.assert_close(y.detach(), torch.tensor([-2.4]))


def test_clip_norm_leaves_smaller_gradients_alone():
    x, y = leaf(0.0), leaf(0.0)
    player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=1.0), clip_norm=6, x=x, y=y)
    update(player, {"x": x, "y": y}, {"x": torch.tensor([3.0]), "y": torch.tensor([4.0])})
    assert (x.item(), y.item()) == (-3.0, -4.0)


def test_clip_norm_counts_only_the_parameters_given():
    x, y = leaf(0.0), leaf(0.0)
    player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=1.0), clip_norm=1.0, x=x, y=y)
    update(player, {"x": x, "y": y}, {"x": torch.tensor([1e3]), "y": torch.tensor([1e3])})
    x_before, y_before = x.item(), y.item()
    update(player, {"x": x, "y": y}, {"x": torch.tensor([0.5])})
    assert x.item() == pytest.approx(x_before - 0.5)
    assert y.item() == y_before


def test_clip_norm_comes_on_top_of_pyros_clipping():
    x = leaf(0.0, 0.0)
    player = optimizer_of(pyro.optim.SGD({"lr": 1.0}, {"clip_value": 0.7}), clip_norm=1.0, x=x)
    update(player, {"x": x}, {"x": torch.tensor([3.0, -4.0])})
    torch.testing.assert_close(x.detach(), torch.tensor([-0.6, 0.7]))  # first (0.6, -0.8), then -0.8 cut to -0.7


NOT_BY_VALUE = {name: make for name, make in ALL_CHOICES.items() if name not in ("pyro clip_value", "pyro both clips")}


@pytest.mark.parametrize("make", NOT_BY_VALUE.values(), ids=NOT_BY_VALUE)
def test_parameters_that_get_no_gradient_stay_what_they_are(make):
    leaves = {name: value.requires_grad_() for name, value in starting_values().items()}
    player = optimizer_of(make(), **leaves)
    update(player, leaves, {"net$$$weight": torch.ones(2, 3)})
    assert torch.equal(leaves["net$$$bias"], torch.ones(2))
    assert not torch.equal(leaves["net$$$weight"], starting_values()["net$$$weight"])


@pytest.mark.parametrize("choice", [None, *TORCH_CHOICES.values()], ids=["default", *TORCH_CHOICES])
def test_parameters_met_later_are_trained_as_by_an_optimizer_of_their_own(choice):
    early, late, expected = leaf(1.0), leaf(2.0), leaf(2.0)
    player = optimizer_of(choice, early=early)
    descend(player, early.sum() ** 2, [early])
    player.meet({"early": early, "late": late})
    alone = optimizer_of(choice, expected=expected)
    for _ in range(4):
        descend(player, (early.sum() + 1) ** 2 + late.sum() ** 2, [early, late])
        descend(alone, expected.sum() ** 2, [expected])
    torch.testing.assert_close(late, expected)
    assert late.item() < 2.0


def test_parameters_met_later_follow_the_schedule():
    x, late = leaf(0.0), leaf(0.0)
    player = optimizer_of(lambda parameters: ExponentialLR(torch.optim.SGD(parameters, lr=0.8), 0.5), x=x)
    for _ in range(2):
        descend(player, x.sum(), [x])
        player.advance_schedule()
    player.meet({"late": late})
    for rate in (0.2, 0.1):  # 0.8 halved twice, then once more
        before = x.item(), late.item()
        descend(player, x.sum() + late.sum(), [x, late])
        player.advance_schedule()
        assert before[0] - x.item() == pytest.approx(rate)
        assert before[1] - late.item() == pytest.approx(rate)


def test_parameters_met_later_have_their_own_pyro_rate_which_follows_the_schedule():
    x, late = leaf(0.0), leaf(0.0)
    choice = pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.SGD, "optim_args": lambda name: {"lr": 0.8 if name == "x" else 0.4}, "gamma": 0.5}
    )
    player = optimizer_of(choice, x=x)
    descend(player, x.sum(), [x])
    player.meet({"x": x, "late": late})
    steps = []
    for _ in range(4):
        before = x.item(), late.item()
        descend(player, x.sum() + late.sum(), [x, late])
        player.advance_schedule()
        steps.append((before[0] - x.item(), before[1] - late.item()))
    assert [step for step, _ in steps] == pytest.approx([0.8, 0.4, 0.2, 0.1])
    assert [step for _, step in steps] == pytest.approx([0.4, 0.2, 0.1, 0.05])


def test_parameters_met_later_are_clipped_with_the_others():
    x, late = leaf(0.0), leaf(0.0)
    player = optimizer_of(lambda parameters: torch.optim.SGD(parameters, lr=1.0), clip_norm=1.0, x=x)
    player.meet({"late": late})
    update(player, {"x": x, "late": late}, {"x": torch.tensor([3.0]), "late": torch.tensor([4.0])})
    assert (x.item(), late.item()) == pytest.approx((-0.6, -0.8), abs=1e-5)


@pytest.mark.parametrize("make", ALL_CHOICES.values(), ids=ALL_CHOICES)
def test_meeting_parameters_again_changes_nothing(make):
    runs = []
    for times in (1, 3):
        leaves = {name: value.requires_grad_() for name, value in starting_values().items()}
        player = PlayerOptimizer(make(), "optim")
        for gradients in random_gradients(3):
            for _ in range(times):
                player.meet(leaves)
            update(player, leaves, gradients)
        runs.append(leaves)
    for once, thrice in zip(runs[0].values(), runs[1].values(), strict=True):
        assert torch.equal(once, thrice)


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("make", ALL_CHOICES.values(), ids=ALL_CHOICES)
@pytest.mark.parametrize("loads_first", [True, False], ids=["loaded before meeting", "loaded after meeting"])
def test_loaded_state_goes_on_bit_for_bit(make, loads_first):
    gradients = random_gradients(7)
    leaves = {name: value.requires_grad_() for name, value in starting_values().items()}
    player = optimizer_of(make(), **leaves)
    for step in range(3):
        update(player, leaves, gradients[step])
        player.advance_schedule()
    state = through_a_file(player.state_dict())
    copies = {name: value.detach().clone().requires_grad_() for name, value in leaves.items()}
    resumed = PlayerOptimizer(make(), "optim")
    if loads_first:
        resumed.load_state_dict(state)
        resumed.meet(copies)
    else:
        resumed.meet(copies)
        update(
            resumed, {name: value.detach().requires_grad_() for name, value in copies.items()} | copies, gradients[6]
        )
        for name, value in copies.items():
            value.data.copy_(leaves[name])  # the parameters' values are not the optimizer's to load
        resumed.load_state_dict(state)
    for step in range(3, 6):
        for each, parameters in ((player, leaves), (resumed, copies)):
            update(each, parameters, gradients[step])
            each.advance_schedule()
    for name, value in leaves.items():
        assert torch.equal(value, copies[name])


def test_there_is_no_state_before_the_first_meeting():
    with pytest.raises(RuntimeError, match="parameters must be met before"):
        PlayerOptimizer(None, "optim").state_dict()


def adam_state_by_name(player):
    return {name: player.optimizer.state[parameter]["exp_avg"].item() for name, parameter in player.parameters.items()}


def test_state_goes_by_name_whatever_the_order_in_which_parameters_are_met():
    a, b = leaf(1.0), leaf(1.0)
    saved = optimizer_of(b=b)
    saved.meet({"a": a})
    descend(saved, 100 * a.sum() + b.sum(), [a, b])
    state = through_a_file(saved.state_dict())
    at_once = PlayerOptimizer(None, "optim")
    at_once.load_state_dict(state)
    at_once.meet({"a": leaf(1.0), "b": leaf(1.0)})
    one_by_one = PlayerOptimizer(None, "optim")
    one_by_one.load_state_dict(state)
    one_by_one.meet({"a": leaf(1.0)})
    one_by_one.meet({"b": leaf(1.0)})
    assert adam_state_by_name(at_once) == adam_state_by_name(one_by_one) == {"a": 100.0, "b": 1.0}


def test_a_state_is_a_copy():
    x = leaf(1.0)
    player = optimizer_of(x=x)
    descend(player, x.sum(), [x])
    state = player.state_dict()
    descend(player, x.sum(), [x])
    other = optimizer_of(x=leaf(1.0))
    other.load_state_dict(state)
    descend(other, other.parameters["x"].sum(), [other.parameters["x"]])
    # A hundredth of the squared gradient; a second update would have made it 0.0199.
    assert state["state"]["x"]["exp_avg_sq"].item() == pytest.approx(0.01)


def test_an_optimizer_with_a_state_from_its_constructor_takes_parameters_met_later():
    x, late = leaf(1.0), leaf(1.0)
    player = optimizer_of(pyro.optim.AdagradRMSProp({}), x=x)
    player.meet({"late": late})
    descend(player, x.sum() + late.sum(), [x, late])
    assert x.item() == late.item() != 1


def test_pyro_defaults_do_not_leak_between_parameters():
    choice = pyro.optim.Adam(lambda name: {"lr": 0.1, "betas": (0.5, 0.9)} if name == "a" else {"lr": 0.1})
    player = optimizer_of(choice, a=leaf(1.0), b=leaf(1.0))
    assert [group["betas"] for group in player.optimizer.param_groups] == [(0.5, 0.9), (0.9, 0.999)]


def test_an_optimizer_that_needs_a_closure_is_refused():
    with pytest.raises(TypeError, match=r"optim makes a LBFGS.*an optimizer that needs gradients alone"):
        optimizer_of(torch.optim.LBFGS, x=leaf(1.0))


def test_parameters_met_after_a_loaded_state_are_trained():
    x, late = leaf(1.0), leaf(1.0)
    player = optimizer_of(x=x)
    descend(player, x.sum(), [x])
    resumed = PlayerOptimizer(None, "optim")
    resumed.load_state_dict(through_a_file(player.state_dict()))
    resumed.meet({"x": x})
    resumed.meet({"late": late})
    descend(resumed, x.sum() + late.sum(), [x, late])
    assert late.item() == pytest.approx(0.998)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.optim.Adam([leaf(1.0)]),
        lambda: ExponentialLR(torch.optim.SGD([leaf(1.0)], lr=0.1), 0.9),
        lambda: pyro.optim.Adam,
        lambda: pyro.optim.ExponentialLR,
        lambda: "adam",
        lambda: 1e-3,
        lambda: {"lr": 1e-3},
    ],
    ids=["optimizer", "schedule", "uncalled", "uncalled schedule", "name", "rate", "arguments"],
)
@pytest.mark.parametrize("argument", ["optim", "optim_d"])
def test_choice_that_is_no_recipe_is_refused_with_an_example(make, argument):
    choice = make()
    text = (
        f"{argument} must be a pyro.optim.PyroOptim or a callable from parameters to a torch optimizer, but is "
        f"{choice!r}. Pass for example {argument}=pyro.optim.Adam({{'lr': 1e-3}}) or "
        f"{argument}=lambda parameters: torch.optim.Adam(parameters, lr=1e-3)."
    )
    with pytest.raises(TypeError, match=re.escape(text)):
        PlayerOptimizer(choice, argument)


@pytest.mark.parametrize(
    "choice",
    [
        lambda parameters: ReduceLROnPlateau(torch.optim.SGD(parameters, lr=0.1)),
        pyro.optim.ReduceLROnPlateau({"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}}),
    ],
    ids=["torch", "pyro"],
)
def test_schedule_that_waits_for_a_falling_loss_is_refused(choice):
    with pytest.raises(
        TypeError, match=r"optim makes a ReduceLROnPlateau.*losses do not fall.*a schedule of the step count"
    ):
        optimizer_of(choice, x=leaf(1.0))


@pytest.mark.parametrize("made", [None, 3, "adam", pyro.optim.Adam({"lr": 0.1}), torch.optim.Adam])
def test_callable_that_makes_no_optimizer_is_refused(made):
    text = (
        "optim must make a torch.optim.Optimizer or a schedule over one from the parameters, "
        f"but made {made!r} ({type(made).__name__})."
    )
    with pytest.raises(TypeError, match=re.escape(text)):
        optimizer_of(lambda parameters: made, x=leaf(1.0))


@pytest.mark.parametrize("clip_norm", [0, 0.0, -1, math.nan, math.inf, "1", True, [1.0]])
@pytest.mark.parametrize("argument, name", [("optim", "clip_norm"), ("optim_d", "clip_norm_d")])
def test_clip_norm_that_is_no_positive_number_is_refused(clip_norm, argument, name):
    with pytest.raises(ValueError, match=rf"^{name} must be a positive number, but is {re.escape(repr(clip_norm))}\.$"):
        PlayerOptimizer(None, argument, clip_norm)
