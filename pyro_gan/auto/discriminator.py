r"""A discriminator that builds itself from the sites it is to compare.

It judges joint rows of all compared sites by one network,

.. math:: D(x_1, \dots, x_k) = f(v_1(x_1), \dots, v_k(x_k)),

with :math:`v_i` the standardized coordinates of site i (:mod:`pyro_gan.auto.coordinates`) and :math:`f` fully
connected; images pass convolutions first. Of a simulator's latents it sees what their regression on the observation
leaves (:mod:`pyro_gan.auto.regression`): a posterior that is much narrower than its prior has size 1 there. A bijection
of the rows changes no ratio of densities, so that the logit means what it always means.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.building import SelfBuilding, check_lengths, check_rows_of, floating_type
from pyro_gan.auto.coordinates import Coordinates, tell_of_numbers
from pyro_gan.auto.networks import flat, fully_connected
from pyro_gan.auto.pooling import embedding_of
from pyro_gan.auto.products import LAYERS, Products, are_multiplied
from pyro_gan.auto.regression import MoreDraws, Regression, are_fixed, ends_of, num_related, numbers_of, regression_of
from pyro_gan.auto.structure import Structure
from pyro_gan.auto.views import View, seen_by
from pyro_gan.checks import listed, shown
from pyro_gan.players.model import ImplicitModel
from pyro_gan.players.supports import fixed_support


class AutoDiscriminator(SelfBuilding):
    """A discriminator for any sites, built at its first call from their shapes, supports and first rows.

    Where a site has at least 64 numbers, as an image, and others beside it have fewer, each kind passes a network of
    its own first, and the next one sees features of both and their products (:mod:`pyro_gan.auto.products`), but under
    :class:`ImplicitKLqp`, to which the logit's numbers matter.

    Constrained sites are mapped to the real line, all are standardized by the first rows, and features with long tails
    are bent (:mod:`pyro_gan.auto.spread`). Labels have a coordinate for each value. Images, with event shape
    (channels, height, width) or (height, width) and at least 8 by 8, pass convolutions of stride 2; the other sites
    beside them pass one layer. Then follows a fully connected network with leaky rectifiers. Parameters have the type
    of the rows, and lie where these do. There is no batch normalization and no dropout: a row's logit depends on that
    row alone, and has second derivatives.

    An inference says what the sites' supports are by :meth:`setup`. Used alone, the discriminator asks `model`, and
    takes the sites for real-valued where there is none.

    Args:
        model: A Pyro model with the compared sites, to learn their supports from where :meth:`setup` is not called.
        width: The units of each hidden layer.
        depth: The number of hidden layers of the fully connected part, of which two are a large site's own.
        images: Whether rows that have the shape of images are images; by default they are where their features have
            ranges of about one size, as pixels have.
        sets: As of :class:`AutoImplicitGuide`.
        series: Likewise.
        masks: Likewise. A mask that is no compared site is taken from the minibatch, for both samples.
        embedding: Likewise; its features are the coordinates in which penalties of the gradient are meant. A module
            that the guide has too is trained with the guide.

    Raises:
        TypeError: `model` is not callable, `width` or `depth` is no integer, or `images` no truth value; `sets`,
            `series`, `masks` or `embedding` is of the wrong kind.
        ValueError: `width` or `depth` is not positive.

    Example:
        >>> discriminator = AutoDiscriminator(width=16, depth=1)
        >>> discriminator(x=torch.randn(5, 2), label=torch.arange(5)).shape
        torch.Size([5])
        >>> discriminator
        AutoDiscriminator(
          width=16, depth=1
          (sites): ModuleList(
            (0): Coordinates('x', shape (2,), numbers, standardized)
            (1): Coordinates('label', shape (), numbers, standardized)
          )
          (embedding): Embedding(
            (images): ModuleList()
            (others): Identity()
          )
          (network): Sequential(
            (0): Linear(in_features=3, out_features=16, bias=True)
            (1): LeakyReLU(negative_slope=0.2)
            (2): Linear(in_features=16, out_features=1, bias=True)
          )
        )
    """

    role = "discriminator"

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        width: int = 128,
        depth: int = 3,
        images: bool | None = None,
        sets: str | Sequence[str] = (),
        series: str | Sequence[str] = (),
        masks: Mapping[str, str] | None = None,
        embedding: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__(model, width, depth, images, Structure.of(sets, series, masks, embedding))
        self._follows = False
        self._latents: tuple[str, ...] = ()
        self._relates_all = False
        self.regression: Regression | None = None

    @classmethod
    def beside(cls, guide: Any) -> Self:
        """A discriminator that sees observations as a guide does, where that builds itself; else one of default kind.

        Args:
            guide: The guide. It trains its embeddings, which the discriminator uses too.
        """
        discriminator = cls()
        if isinstance(guide, SelfBuilding):
            discriminator.structure = guide.structure
            discriminator._follows = True
            discriminator.borrow(guide)
        return discriminator

    def given(self, sites: Collection[str]) -> list[str]:
        """What it is to be called with beside the compared sites: their masks, where these are no such sites.

        Args:
            sites: The compared sites.
        """
        masks = [mask for site, mask in self.structure.masks.items() if site in sites]
        return [mask for mask in dict.fromkeys(masks) if mask not in sites]

    def setup(self, supports: dict[str, Constraint], real: dict[str, Tensor]) -> None:
        """Build the network; where it is built already, nothing changes.

        Args:
            supports: The sites' supports in the model; a site without one counts as real-valued.
            real: The first rows by site, each with shape `(num_rows, *event_shape)`, which standardize the sites.

        Raises:
            ValueError: It was built for other sites or shapes, or sites differ in their number of rows.
        """
        if self.is_built:
            self._check(real)
            return
        check_lengths(real)
        if self._follows:
            self.structure = self.structure.among(real)
        self.structure.check(self.role, real, needs_masks=self._as == {})
        masks = self.structure.masks.values()
        names = [name for name in real if name not in masks]
        self.conditions = frozenset(name for name in names if supports and name not in supports)
        first, dtype = next(iter(real.values())), floating_type({name: real[name] for name in names})
        with torch.inference_mode(False), torch.no_grad():
            sites = [self._coordinates(name, supports.get(name), real, dtype) for name in names]
            has_products = are_multiplied(sites)
            embedding = Products(sites, self.width) if has_products else embedding_of(sites, self.width)
            depth = max(1, self.depth - LAYERS) if has_products else self.depth
            network = fully_connected(embedding.size, self.width, depth, 1)
            self.sites = nn.ModuleList(sites)
            self.embedding = embedding.to(first.device, dtype)
            self.network = network.to(first.device, dtype)
        for site in sites:
            site.tell(real) if isinstance(site, View) else site.tell(real[site.name])
            if isinstance(site, Coordinates) and site.name in self.conditions and not site.kinds:
                tell_of_numbers(site.name, real[site.name])
        self._model = (None,)

    def relate(self, rows: Mapping[str, Tensor], latents: Collection[str], more: MoreDraws) -> None:
        """See latents beside what the observations tell of them, in draws of the model.

        Args:
            rows: Such draws by site, each with shape `(num_rows, *event_shape)`.
            latents: The continuous sites that are latents of rows; images and labels among them are seen as they are.
            more: Gives many such draws.
        """
        self._latents = tuple(site.name for site in self._sites() if site.name in latents and _is_continuous(site))
        self._relates_all = set(self._latents) == set(latents)
        related, others = self._parts()
        sizes = sum(site.size for site in related), num_related(others)
        with torch.inference_mode(False), torch.no_grad():
            self.regression = regression_of(*sizes, next(self.network.parameters()))
            if self.regression is not None:
                self.regression.learn(*self._related_numbers(rows), ends_of(related), others)
                if are_fixed(others):
                    self.regression.learn_moments(map(self._related_numbers, more()))

    def forward(self, *rows: Tensor, **rows_by_site: Tensor) -> Tensor:
        """The logits of rows.

        Args:
            rows: The only compared site's rows, with shape `(num_rows, *event_shape)`.
            rows_by_site: The rows of several sites by name.

        Returns:
            The logits, with shape `(num_rows,)`.

        Raises:
            TypeError: The rows are no tensors, or come both by position and by name.
            ValueError: Sites or event shapes are not those it was built for.
        """
        given = self._by_site(rows, rows_by_site)
        if not self.is_built:
            self.setup(self._supports(given, is_named=bool(rows_by_site)), given)
        return self.judge(self.coordinates(given))

    def coordinates(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """The standardized coordinates that the network sees, in which penalties of its gradient have a unit.

        Args:
            rows: Rows by site, each with shape `(num_rows, *event_shape)`.

        Returns:
            The coordinates by site, of floating point, each with shape `(num_rows, *shape)`.
        """
        self._check(rows)
        if self.regression is None:
            return self._seen(rows, self._sites())
        latents, others = self._parts()
        seen = self._seen(rows, others)
        residuals = self.regression.residuals(self._numbers(rows), self._given(seen))
        for site, part in zip(latents, residuals.split([site.size for site in latents], 1), strict=True):
            seen[site.name] = part.reshape(len(part), *site.shape)
        return {site.name: seen[site.name] for site in self._sites()}

    def residuals(self, rows: Mapping[str, Tensor], draws: Sequence[Mapping[str, Tensor]]) -> list[Tensor] | None:
        """What is left of draws of latents beside their regression on the same observations.

        Args:
            rows: The observations by site, each with shape `(num_rows, *event_shape)`.
            draws: Of each draw the latents by site, likewise.

        Returns:
            For each draw numbers with shape `(num_rows, num_numbers)`, of size 1 in draws of the model; `None` where
            not all continuous latents are related.
        """
        if self.regression is None or not self._relates_all:
            return None
        _, others = self._parts()
        given = self._given(self._seen(rows, others))
        return list(self.regression.residuals(torch.stack([self._numbers(latents) for latents in draws]), given))

    def judge(self, coordinates: dict[str, Tensor]) -> Tensor:
        """The logits of rows given by their coordinates.

        Args:
            coordinates: What :meth:`coordinates` returned.

        Returns:
            The logits, with shape `(num_rows,)`.
        """
        logits: Tensor = self.network(self.embedding([coordinates[site.name] for site in self._sites()]))
        return logits.squeeze(1)

    def _seen(self, rows: Mapping[str, Tensor], sites: Sequence[Coordinates | View]) -> dict[str, Tensor]:
        """The coordinates of sites, each by itself."""
        return dict(zip((site.name for site in sites), seen_by(sites, rows), strict=True))

    def _parts(self) -> tuple[list[Coordinates], list[Coordinates | View]]:
        """The latents that are related, and the other sites."""
        sites = self._sites()
        latents = [site for site in sites if isinstance(site, Coordinates) and site.name in self._latents]
        return latents, [site for site in sites if site.name not in self._latents] if latents else []

    def _numbers(self, rows: Mapping[str, Tensor]) -> Tensor:
        """The numbers of the latents that are related, with a row for each row."""
        latents, _ = self._parts()
        return torch.cat([flat(site.on_a_line(rows[site.name])) for site in latents], 1)

    def _related_numbers(self, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The latents' numbers and those of the other sites."""
        _, others = self._parts()
        return self._numbers(rows), self._given(self._seen(rows, others))

    def _given(self, seen: Mapping[str, Tensor]) -> Tensor:
        """The numbers of the other sites that they are related to."""
        _, others = self._parts()
        return numbers_of(others, [seen[site.name] for site in others])

    def _sites(self) -> list[Coordinates | View]:
        return [site for site in self.sites if isinstance(site, Coordinates | View)]

    def _by_site(self, rows: tuple[Tensor, ...], rows_by_site: dict[str, Tensor]) -> dict[str, Tensor]:
        if len(rows) + bool(rows_by_site) != 1:
            raise TypeError(
                f"the discriminator takes one site's rows by position, or several sites' by name, but got {len(rows)} "
                f"by position and {len(rows_by_site)} by name. Call discriminator(x) or discriminator(x=x, z=z)."
            )
        only = self._sites()[0].name if self.is_built and len(self.sites) == 1 else "x"
        given = rows_by_site or {only: rows[0]}
        for name, values in given.items():
            if not isinstance(values, Tensor):
                raise TypeError(
                    f"the rows of {name!r} must be a tensor, but are {shown(values)} ({type(values).__name__})."
                )
        return given

    def _check(self, rows: dict[str, Tensor]) -> None:
        names = [site.name for site in self._sites()]
        if set(rows).difference(self.structure.masks.values()) != set(names):
            raise ValueError(
                f"the discriminator was built for the sites {listed(names)}, but is called with "
                f"{listed(rows)}. Pass the same sites, or make a new discriminator."
            )
        for site in self._sites():
            check_rows_of("discriminator", site, rows)
        check_lengths(rows)

    def _supports(self, rows: dict[str, Tensor], is_named: bool) -> dict[str, Constraint]:
        """The supports of the sites in the model, where one was given."""
        (model,) = self._model
        if model is None:
            return {}
        implicit = ImplicitModel(model, None, next(iter(rows.values())).device, move=False)
        with poutine.block():
            implicit.look_at(implicit.calls.arguments(rows if is_named else tuple(rows.values())))
        if is_named:
            return {name: site.support for name, site in implicit.found.items()}
        candidates = [site.support for site in implicit.found.values() if site.is_candidate]
        return dict(zip(rows, candidates, strict=True)) if len(candidates) == 1 else {}

    def _coordinates(
        self, name: str, support: Constraint | None, rows: dict[str, Tensor], dtype: torch.dtype
    ) -> Coordinates | View:
        """How a site is seen; where its support differs between rows, no single map covers it: it counts as real."""
        fixed = None if support is None else fixed_support(support, tuple(rows[name].shape[1:]))
        return self.view(name, constraints.real if fixed is None else fixed, rows, dtype)


def _is_continuous(site: Any) -> bool:
    return isinstance(site, Coordinates) and not (site.categories or site.kinds or site.is_image or site.has_odds)
