r"""An implicit guide for all latent sites of a model, built from what a look at the model tells.

For each row it draws noise :math:`\epsilon \sim N(0, I)` and gives the latents

.. math:: z = T(\mu + \sigma v), \qquad v = A \, (\epsilon, u, g) + f(\epsilon, h(u), g),

where :math:`u` are the standardized coordinates of the observation, :math:`h` what convolutions make of those of
images, :math:`g` the latents that all rows share, :math:`f` a fully connected network, :math:`T` the map from the
real line to the sites' supports, and :math:`\mu` and :math:`\sigma` the mean and the standard deviation of prior draws
on the real line, outliers aside; where these have long tails, :math:`\mu + \sigma v` is the hyperbolic sine of such a
line (:mod:`pyro_gan.auto.spread`). The linear path :math:`A` starts by passing noise on and :math:`f` near 0, so that
the guide starts near the prior, site by site; this path alone can meet the posterior of a linear Gaussian model. Where
draws of the model are at hand, as for a simulator, :math:`v` is drawn beside its linear regression on the observation,

.. math:: v = [b + B u'] + s \, L \, \bigl( A \, (\epsilon, u, g) + f(\epsilon, h(u), g) \bigr)

(:mod:`pyro_gan.auto.regression`; [ ] keeps the line between the ends of an interval, and s is 1 but for what would lie
beyond), and the guide starts there: at a posterior that is as narrow, and lies as far off the prior, as a line can
tell. Many simulations tell means and deviations besides, by a network that is fitted before the first step
(:mod:`pyro_gan.auto.moments`). The weights of :math:`f` and :math:`h` decay under the default optimizer, those of
:math:`A` do not, so that a posterior is linear where nothing speaks against it. Latents that all rows share are
:math:`T(\mu + \sigma (A \epsilon + f(\epsilon)))`: they depend on no row.

Discrete latents of finitely many values are drawn before the continuous ones, which know them. For these such a network
of its own gives logits, added to those of the prior (:mod:`pyro_gan.auto.labels`), and the draw is Pyro's: of a
Categorical or Bernoulli, with a probability that the score function needs.

What the guide can not tell: its density. Its draws can be compared with others, as
:class:`~pyro_gan.BiGANInference` does; what needs log q, such as the evidence lower bound, sees a point mass, and makes
the guide seek the mode.

References:
    Huszar (2017), "Variational Inference using Implicit Distributions".
    Kucukelbir et al. (2017), "Automatic Differentiation Variational Inference", section 2.3: the map to the real line.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from pyro_gan.auto.building import SelfBuilding, check_lengths, check_rows_of
from pyro_gan.auto.calls import first_call, named_by_site
from pyro_gan.auto.labels import Labels
from pyro_gan.auto.latents import Latent, Prototype, look_at
from pyro_gan.auto.posterior import NoiseNetwork, Posterior
from pyro_gan.auto.registering import check_store, register
from pyro_gan.auto.regression import MoreDraws
from pyro_gan.auto.structure import Structure
from pyro_gan.auto.views import View
from pyro_gan.checks import positive_integer, shown
from pyro_gan.players.supports import fixed_support


class AutoImplicitGuide(SelfBuilding):
    """A guide for all latent sites of a model at once: noise and the observation through a network.

    At its first call it runs the model a few times to find the latent sites, their supports, shapes and plates, and
    where their priors lie. It is called as the model is, on rows of observations, also where the model takes no data.
    The network sees observations as :class:`AutoDiscriminator` sees rows: mapped to the real line where the model
    observes them at a constrained site, standardized by the first ones, images through convolutions. Where less than 64
    numbers of an observation lie as repeated measurements do, it sees how far they are spread, too
    (:mod:`pyro_gan.auto.repeated`). Latents outside of the plate of the rows are drawn once for all rows, from noise
    alone; the others depend on them. Discrete latents, of a Categorical, Bernoulli, OneHotCategorical or Binomial, are
    drawn as integers or as the model has them, and the continuous ones depend on them too; those that the model marks
    to be enumerated are left to it. Parameters have the type of the latents, lie where these do, and are registered
    with Pyro under the guide's name. Several guides of one name each keep their own, while they live; the store has
    those of the one that was called last. An optimizer such as Adam moves the guide a quarter as fast as other
    networks, so that it does not run ahead of a discriminator; as fast under :class:`BiGANInference` where an
    observation has at least 64 numbers, of which there is more to learn.

    Args:
        model: The model. Discrete latent sites without a bound, such as of a Poisson, are summed out of it, or hidden
            by `pyro.poutine.block`.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
        noise_dim: The noise of a row; by default twice as many numbers as its latents have on the real line, and at
            least 8.
        images: As of :class:`AutoDiscriminator`.
        sets: The observation, or several, of which a row is a set: any number of elements, in any order, with shape
            `(num_rows, length, *element_shape)`. It is summed up by a mean over what a network makes of each.
        series: The observation, or several, of which a row is a series, with the same shape; it passes convolutions.
        masks: By observation, the name of its mask: truth values, True where an entry is there, with as many first
            dimensions of the observation's shape as tell entries apart. Of sets and series, which are filled up to one
            length, that is `(num_rows, length)`. Without its mask, a later observation has all its entries.
        embedding: By observation, a module of your own that makes features of its rows, with shape
            `(num_rows, num_features)`; it is called with the rows, and with the mask where there is one.
        observed: The name of a site that is data although the model does not observe it, or several. Deterministic and
            Delta sites are never latent, nor are sites by whose names the guide is called. Where the model observes no
            site and draws one last, given the others, that is data.
        name: The prefix of its parameters and of its noise in Pyro.

    Raises:
        TypeError: `model` is not callable, `observed` or `name` no name, or a number no integer; `sets`, `series`,
            `masks` or `embedding` is of the wrong kind.
        ValueError: A number is not positive; at the first call, the model has no latent sites, or one that noise
            through a network can not draw; an observation that is named is none, or a mask does not fit.

    Example:
        >>> import pyro, torch
        >>> import pyro.distributions as dist
        >>> pyro.clear_param_store()
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        ...         weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
        ...         pyro.sample("x", dist.Normal(rate, weights[..., 0]), obs=x)
        >>> guide = AutoImplicitGuide(model)
        >>> {site: tuple(rows.shape) for site, rows in guide(torch.randn(5)).items()}
        {'rate': (5,), 'weights': (5, 3)}

        Which of three mechanisms made each number:

        >>> def mechanisms(x):
        ...     with pyro.plate("data", len(x)):
        ...         kind = pyro.sample("kind", dist.Categorical(torch.ones(3)))
        ...         pyro.sample("x", dist.Normal(torch.tensor([-1.0, 0.0, 1.0])[kind], 1.0), obs=x)
        >>> AutoImplicitGuide(mechanisms, name="choosing")(torch.randn(5))["kind"].dtype
        torch.int64
    """

    posterior: Posterior
    role = "guide"
    looks_for_repeats = True

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        width: int = 128,
        depth: int = 3,
        noise_dim: int | None = None,
        images: bool | None = None,
        sets: str | Sequence[str] = (),
        series: str | Sequence[str] = (),
        masks: Mapping[str, str] | None = None,
        embedding: Mapping[str, nn.Module] | None = None,
        observed: str | Sequence[str] = (),
        name: str = "AutoImplicitGuide",
    ) -> None:
        if model is None:
            raise TypeError("model must be a Pyro model, a callable, but is None.")
        super().__init__(model, width, depth, images, Structure.of(sets, series, masks, embedding))
        self.noise_dim = None if noise_dim is None else positive_integer("noise_dim", noise_dim)
        sites = (observed,) if isinstance(observed, str) else observed
        if not isinstance(sites, list | tuple) or not all(isinstance(site, str) for site in sites):
            raise TypeError(f"observed must be a site's name or a list of names, but is {shown(observed)}.")
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a string, the prefix of the guide's parameters, but is {name!r}.")
        self.observed = tuple(sites)
        self.name = name
        self.tells_large = False
        self._names: tuple[str, ...] = ()
        self._latents: tuple[Latent, ...] = ()
        self._row_plate: Any = None
        self._subsamples_rows = False

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Look at the model and build the network; where it is built already, nothing changes.

        Args:
            args: What the guide is called with.
            kwargs: The same by name.

        Raises:
            ValueError: The model has no latent sites, or one that can not be drawn; or rows have latents of their own,
                and there are no observations.
        """
        if self.is_built:
            return
        model = self._model[0]
        call = first_call(model, args, kwargs, self.observed)
        check_lengths(call.rows)
        num_rows = _number_of_rows(call.rows)
        prototype = look_at(model, call.arguments, call.rows, self.observed, kwargs)
        call = named_by_site(call, tuple(prototype.observed))
        if not call.rows and (not prototype.observed or any(latent.has_rows for latent in prototype.latents)):
            raise ValueError(
                "the guide is called without observations, which latents of rows depend on. "
                "Call it on tensors with shape (num_rows, ...), as the model."
            )
        self.structure.check(self.role, call.rows, needs_masks=self._as == {})
        observed = [name for name in call.rows if name not in self.structure.masks.values()]
        with torch.inference_mode(False), torch.no_grad():
            posterior = Posterior(
                observed,
                _supports(call.rows, prototype),
                prototype.latents,
                self.noise_dim,
                self.width,
                self.depth,
                self.seen,
                lambda name, support, dtype: self.view(name, support, call.rows, dtype),
            )
        # A discriminator knows sites by the model's names.
        self.repeated.update(site for site, name in _names_of_rows(call.rows, prototype) if name in self.repeated)
        check_store(self.name, {f"posterior.{name}": value for name, value in posterior.named_parameters()})
        self._names = call.names
        self._latents = tuple(latent._replace(draws=latent.draws[:0]) for latent in prototype.latents)
        self._row_plate = prototype.row_plate
        self._subsamples_rows = _takes_part_of(num_rows, prototype.row_plate)
        self.posterior = posterior
        self._model = (None,)

    def relate(self, rows: Mapping[str, Tensor], more: MoreDraws) -> None:
        """Start where the latents lie given the observations, in draws of the model.

        Args:
            rows: The latents and the observations by name, each with shape `(num_rows, *event_shape)`. Without one of
                them, nothing changes.
            more: Gives many such draws.
        """
        with torch.inference_mode(False), torch.no_grad():
            self.posterior.relate(rows, more)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Draw the latent sites.

        Args:
            args: What the model is called with: rows of observations, with shape `(num_rows, *event_shape)`. What is no
                tensor, or is left out of a minibatch when the model is called, is left out.
            kwargs: The same by name.

        Returns:
            The draws by site, in Pyro's shapes.

        Raises:
            ValueError: As of :meth:`setup`, or an observation is missing or has another event shape than at first.
        """
        self.setup(*args, **kwargs)
        register(self.name, self)
        rows = self._rows(args, kwargs)
        plates = self._plates(_number_of_rows(rows))
        if self._subsamples_rows:
            index = plates[self._row_plate.name].indices
            rows = {name: values[index.to(values.device)] for name, values in rows.items()}
        noise, around = self._noises(rows, plates)
        latents = {latent.name: latent for latent in self._latents}
        drawn: dict[str, Tensor] = {}

        def draw(site: Labels, logits: Tensor) -> Tensor:
            latent = latents[site.name]
            logits = _placed(latent, logits, site.shape, around)
            drawn[site.name] = _draw(latent, site.distribution(logits), plates)
            return site(drawn[site.name]).expand_as(logits)

        for name, value in self.posterior(noise, rows, draw).items():
            latent = latents[name]
            value = _placed(latent, value, latent.draws.shape[1:], around)
            drawn[name] = _draw(latent, dist.Delta(value, event_dim=latent.event_dim), plates)
        return {name: drawn[name] for name in latents}

    @property
    def argument_names(self) -> tuple[str, ...]:
        """The names of its arguments by position, from its first call on."""
        return self._names

    def check_asked(self, rows: Mapping[str, Tensor] | Sequence[Tensor]) -> None:
        """Refuse observations that hold nothing; this waits for the device.

        Args:
            rows: Observations and masks, by name or in the order of the guide's arguments.

        Raises:
            ValueError: A set or a series has no element.
        """
        by_name = rows if isinstance(rows, Mapping) else dict(zip(self._names, rows, strict=False))
        for site in self.posterior.observations():
            if isinstance(site, View):
                site.check_any(by_name)

    def extra_repr(self) -> str:
        noise = "" if self.noise_dim is None else f", noise_dim={self.noise_dim}"
        return f"{super().extra_repr()}{noise}, name={self.name!r}"

    def __getstate__(self) -> dict[str, Any]:
        for parameter in self.parameters():  # Pyro's weak references can not be pickled; it sets them anew at each use
            vars(parameter).pop("unconstrained", None)
        return vars(self).copy()

    def _rows(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
        """The observations of a call, which must be as the first ones."""
        given = {**dict(zip(self._names, args, strict=False)), **kwargs}
        rows: dict[str, Tensor] = {}
        for site in self.posterior.observations():
            values = given.get(site.name)
            if not isinstance(values, Tensor):
                raise ValueError(
                    f"the guide was built for observations of {site.name!r}, but is called without. "
                    f"Pass a tensor with shape (num_rows, ...) and event shape {site.event_shape}."
                )
            rows[site.name] = values
            mask = self.structure.masks.get(site.name)
            if mask is not None and isinstance(given.get(mask), Tensor):
                rows[mask] = given[mask]
            check_rows_of("guide", site, rows)
        check_lengths(rows)
        return rows

    def _plates(self, num_rows: int | None) -> dict[str, Any]:
        """The plates of the latents, as the model has them."""
        frames = {frame.name: frame for latent in self._latents for frame in latent.plates}
        return {name: self._plate(frame, num_rows) for name, frame in frames.items()}

    def _plate(self, frame: Any, num_rows: int | None) -> Any:
        if frame.size < 0:  # a plate without a size
            return pyro.plate(frame.name, dim=frame.dim)
        if num_rows is None or frame.name != self._row_plate.name:
            return pyro.plate(frame.name, frame.full_size, subsample_size=frame.size, dim=frame.dim)
        if self._subsamples_rows:
            return pyro.plate(frame.name, num_rows, subsample_size=min(frame.size, num_rows), dim=frame.dim)
        full_size = num_rows if frame.size == frame.full_size else max(num_rows, frame.full_size)
        return pyro.plate(frame.name, full_size, subsample_size=num_rows, dim=frame.dim)

    def _noises(self, rows: dict[str, Tensor], plates: dict[str, Any]) -> tuple[dict[str, Tensor], tuple[int, ...]]:
        """The noise of each network, and the sizes of plates around the guide, which noise for all rows has in front.

        That of latents that all rows share has shape `(*, noise_dim)`, that of others `(*, num_rows, noise_dim)`.
        """
        networks = self.posterior.networks()
        shared = {name: self._noise(name, networks[name], (), 1) for name in networks if name.startswith("shared")}
        own = {name: self._own_noise(name, networks[name], rows, plates) for name in networks if name not in shared}
        around = next((tuple(each.shape[:-1]) for each in shared.values()), ())
        for name, noise in shared.items() if own else ():
            shared[name] = noise.reshape(next(iter(own.values())).shape[:-2] + noise.shape[-1:])
        return {**shared, **own}, around

    def _own_noise(self, name: str, network: NoiseNetwork, rows: dict[str, Tensor], plates: dict[str, Any]) -> Tensor:
        """The noise of the rows, with shape `(*, num_rows, noise_dim)`; dimensions before it are of plates around."""
        num_rows = len(next(iter(rows.values())))
        if self._row_plate is None:
            return self._noise(name, network, (num_rows,), 2)
        num_inner = -self._row_plate.dim - 1
        with plates[self._row_plate.name]:
            noise = self._noise(name, network, (num_rows, *num_inner * (1,)), 1)
        return noise.reshape(*noise.shape[: -num_inner - 2], num_rows, network.noise_dim)

    def _noise(self, stage: str, network: NoiseNetwork, shape: tuple[int, ...], num_event_dims: int) -> Tensor:
        suffix = "noise" if stage == "own" else f"{stage}_noise"
        zeros = network.linear.bias.new_zeros(*shape, network.noise_dim)
        noise: Tensor = pyro.sample(
            f"{self.name}.{suffix}", dist.Normal(zeros, 1.0).to_event(num_event_dims), infer={"is_auxiliary": True}
        )
        return noise


def _placed(latent: Latent, value: Tensor, shape: tuple[int, ...], around: tuple[int, ...]) -> Tensor:
    """What a latent of that shape is drawn from; the plates of one without rows take the place of the last around."""
    if latent.has_rows:
        return value
    return value.reshape(around[: max(0, len(around) - latent.num_batch_dims)] + shape)


def _draw(latent: Latent, distribution: Any, plates: dict[str, Any]) -> Tensor:
    """Draw a latent in its plates."""
    with ExitStack() as stack:
        for frame in latent.plates:
            stack.enter_context(plates[frame.name])
        drawn: Tensor = pyro.sample(latent.name, distribution)
    return drawn


def _number_of_rows(rows: dict[str, Tensor]) -> int | None:
    return len(next(iter(rows.values()))) if rows else None


def _supports(rows: dict[str, Tensor], prototype: Prototype) -> dict[str, Constraint]:
    """The supports of observations in the model: those of the observed sites that have their names or values."""
    supports: dict[str, Constraint | None] = {}
    for site, name in _names_of_rows(rows, prototype):
        supports[name] = fixed_support(prototype.observed[site]["fn"].support, tuple(rows[name].shape[1:]))
    return {name: support for name, support in supports.items() if support is not None}


def _names_of_rows(rows: dict[str, Tensor], prototype: Prototype) -> list[tuple[str, str]]:
    """The observed sites, each with the name of the observation that has its name or values."""
    return [
        (site, name)
        for name, values in rows.items()
        for site, message in prototype.observed.items()
        if site == name or message["value"] is values
    ]


def _takes_part_of(num_rows: int | None, row_plate: Any) -> bool:
    """Whether the model's plate takes a part of the rows that it is given."""
    return row_plate is not None and 0 < row_plate.size < row_plate.full_size == num_rows
