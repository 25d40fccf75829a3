"""The same step in JAX: the whole loop under `lax.scan`, on fully connected networks without a user's model."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax, random
from torch import nn
from workloads import FEWEST_PIXELS, WEIGHT, Workload

STEPS = 50
"""The steps of a scan, which is one call."""

SLOPES = {"tutorial": 0.0, "two dimensions": 0.2, "images": 0.2}


def step(workload: Workload) -> Callable[[], int] | None:
    """A call that takes :data:`STEPS` steps and tells so; `None` for a workload that is not written in JAX."""
    if workload.name not in SLOPES:
        return None
    players = [parameters(network) for network in (workload.generator, workload.discriminator)]
    losses = of_tutorial() if workload.name == "tutorial" else of_default()
    check(workload, players, losses)
    data = jnp.asarray(workload.data.numpy())
    state = {"players": players, "moments": [[zeros(each), zeros(each)] for each in players], "number": jnp.zeros(())}
    scan = jax.jit(lambda state, key: lax.scan(one_step(workload, losses, data), state, random.split(key, STEPS)))
    box = {"state": state, "key": random.key(0)}

    def call() -> int:
        box["key"], key = random.split(box["key"])
        box["state"], seen = scan(box["state"], key)
        jax.block_until_ready(seen)
        return STEPS

    return call


def parameters(network: nn.Module) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases of a network's linear layers."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return [(jnp.asarray(one.weight.detach().numpy()), jnp.asarray(one.bias.detach().numpy())) for one in layers]


def zeros(tree: Any) -> Any:
    """Zeros like all arrays."""
    return jax.tree.map(jnp.zeros_like, tree)


def apply(layers: Any, x: jax.Array, slope: float) -> jax.Array:
    """A fully connected network with leaky rectifiers."""
    for weight, bias in layers[:-1]:
        x = x @ weight.T + bias
        x = jnp.where(x > 0, x, slope * x)
    weight, bias = layers[-1]
    return x @ weight.T + bias


def of_tutorial() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The 2014 game's losses of both players; the generator ends in a sigmoid."""

    def fake(generator: Any, noise: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(apply(generator, noise, 0.0))

    def discriminator(d: Any, g: Any, x: jax.Array, noise: jax.Array, u: jax.Array) -> jax.Array:
        real, made = apply(d, x, 0.0), apply(d, lax.stop_gradient(fake(g, noise)), 0.0)
        return jax.nn.softplus(-real).mean() + jax.nn.softplus(made).mean()

    def generator(g: Any, d: Any, x: jax.Array, noise: jax.Array) -> jax.Array:
        return jax.nn.softplus(-apply(d, fake(g, noise), 0.0)).mean()

    return discriminator, generator


def of_default() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The default recipe's losses of both players."""

    def discriminator(d: Any, g: Any, x: jax.Array, noise: jax.Array, u: jax.Array) -> jax.Array:
        made = lax.stop_gradient(apply(g, noise, 0.2))
        loss = jax.nn.softplus(apply(d, made, 0.2) - apply(d, x, 0.2)).mean()
        epsilon = ((1 - jnp.cos(math.pi * u)) / 2)[:, None]
        between = made + epsilon * (x - made)
        slopes = jax.grad(lambda rows: apply(d, rows, 0.2).sum())(between)
        variances = jnp.concatenate([x, made]).var(0)
        unit = len(variances) * (variances.mean() if len(variances) >= FEWEST_PIXELS else variances)
        return loss + WEIGHT / 2 * (unit * jnp.square(slopes)).sum(1).mean()

    def generator(g: Any, d: Any, x: jax.Array, noise: jax.Array) -> jax.Array:
        return jax.nn.softplus(lax.stop_gradient(apply(d, x, 0.2)) - apply(d, apply(g, noise, 0.2), 0.2)).mean()

    return discriminator, generator


def one_step(workload: Workload, losses: Any, data: jax.Array) -> Callable[[Any, jax.Array], Any]:
    """The body of the scan."""
    discriminator_loss, generator_loss = losses
    size, is_tutorial = workload.generator[0].in_features, workload.name == "tutorial"
    rows = workload.batch_size

    def noise(key: jax.Array) -> jax.Array:
        return random.uniform(key, (rows, size), minval=-1.0) if is_tutorial else random.normal(key, (rows, size))

    def body(state: Any, key: jax.Array) -> Any:
        keys = random.split(key, 5)
        x = data[random.randint(keys[0], (rows,), 0, len(data))]
        if is_tutorial:
            x = random.bernoulli(keys[1], x / 255).astype(jnp.float32)
        (g, d), (moments_g, moments_d), number = state["players"], state["moments"], state["number"] + 1
        gradient = jax.grad(discriminator_loss)(d, g, x, noise(keys[2]), random.uniform(keys[3], (rows,)))
        d, moments_d = adam(workload, d, moments_d, gradient, number)
        gradient = jax.grad(generator_loss)(g, d, x, noise(keys[4]))
        g, moments_g = adam(workload, g, moments_g, gradient, number)
        return {"players": [g, d], "moments": [moments_g, moments_d], "number": number}, number

    return body


def adam(workload: Workload, values: Any, moments: Any, gradient: Any, number: jax.Array) -> tuple[Any, Any]:
    """An update by Adam."""
    (first, second), rate = workload.adam.get("betas", (0.9, 0.999)), workload.adam["lr"]
    mean = jax.tree.map(lambda m, g: first * m + (1 - first) * g, moments[0], gradient)
    square = jax.tree.map(lambda v, g: second * v + (1 - second) * g * g, moments[1], gradient)

    def moved(value: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return value - rate * m / (1 - first**number) / (jnp.sqrt(v / (1 - second**number)) + 1e-8)

    return jax.tree.map(moved, values, mean, square), [mean, square]


def check(workload: Workload, players: Any, losses: Any) -> None:
    """Compare the losses' gradients with torch's, on the same rows and random numbers.

    Raises:
        ValueError: They differ by more than rounding.
    """
    discriminator_loss, generator_loss = losses
    x = workload.data[: workload.batch_size].float() / (255 if workload.name == "tutorial" else 1)
    noise = workload.draw_noise(len(x))
    torch.manual_seed(0)
    u = torch.rand(len(x))
    torch.manual_seed(0)  # the careful loop's penalty draws the same
    made = workload.generator(noise)
    g, d = workload.generator, workload.discriminator
    by_torch = [
        torch.autograd.grad(workload.discriminator_loss(d, x, made.detach()), network_parameters(d)),
        torch.autograd.grad(workload.generator_loss(d, x, made, True), network_parameters(g)),
    ]
    rows, noise_, u_ = (jnp.asarray(each.numpy()) for each in (x, noise, u))
    by_jax = [
        jax.tree.leaves(jax.grad(discriminator_loss)(players[1], players[0], rows, noise_, u_)),
        jax.tree.leaves(jax.grad(generator_loss)(players[0], players[1], rows, noise_)),
    ]
    for found, expected in zip(by_jax, by_torch, strict=True):
        scale = max(float(value.abs().max()) for value in expected)
        for one, other in zip(found, expected, strict=True):
            difference = float(np.abs(np.asarray(one) - other.numpy()).max()) / scale
            if difference > 1e-4:
                raise ValueError(f"{workload.name}: JAX and torch differ by {difference:.1e}.")


def network_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Weights and biases, layer by layer."""
    return [part for layer in network.modules() if isinstance(layer, nn.Linear) for part in (layer.weight, layer.bias)]
