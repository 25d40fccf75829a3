"""How inferences with a guide find the latent sites, run model and guide, and keep what they know of them.

A guide is called as `SVI` would call it, on the minibatch, and draws sites named as the model's latent ones. The
compared sites are these and the observed ones, so that the discriminator judges their joint sample.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Unpack

import torch
from pyro.poutine.condition_messenger import ConditionMessenger
from torch import Tensor

from pyro_gan.auto import AutoDiscriminator, AutoImplicitGuide
from pyro_gan.auto.building import SelfBuilding
from pyro_gan.callbacks import Callback, FinalMean
from pyro_gan.checks import listed
from pyro_gan.inference.base import AdversarialInference
from pyro_gan.inference.matching import (
    can_be_compared,
    check_moved,
    check_no_simulations,
    check_rows,
    draws_single_rows,
    find_latent_sites,
    find_observed_sites,
    hidden_sites,
)
from pyro_gan.inference.options import DiscriminatorChoice, Options
from pyro_gan.players.batch import Batch, named, number_of_rows, resized_batch
from pyro_gan.players.calls import Arguments
from pyro_gan.players.dependence import dependence, noisy
from pyro_gan.players.discrete import by_row
from pyro_gan.players.handler import Draw, joined
from pyro_gan.players.model import ImplicitModel
from pyro_gan.players.observations import Observations
from pyro_gan.players.player import Player
from pyro_gan.training.minibatches import Minibatches
from pyro_gan.training.optimizers import OptimizerChoice


class Guiding(AdversarialInference):
    """Model and guide: their sites, draws and state."""

    guide_moves_real = True
    judges_in_stages = False
    """Whether the discriminator may be a mapping of such by observed site."""
    guide_tells_large = False
    """Whether a guide that builds itself learns as fast as others from large observations."""
    discriminator_tells_large = True
    """Whether a discriminator that builds itself multiplies features of large sites and of small ones."""

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        discriminator: DiscriminatorChoice = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        **options: Unpack[Options],
    ) -> None:
        if isinstance(discriminator, Mapping) and self.judges_in_stages and options.get("site") is None:
            raise ValueError(
                f"a discriminator for each of {listed(discriminator)} leaves open which latent sites are compared. "
                f"Pass site=[...] with the latent sites and {listed(discriminator)}."
            )
        if isinstance(discriminator, Mapping) and not self.judges_in_stages:
            raise TypeError(
                f"{type(self).__name__} takes one discriminator of latent and observed sites together, but was given a "
                f"mapping of {listed(discriminator)}. Pass one; stages are for models without a guide (GANInference)."
            )
        discriminator = AutoDiscriminator.beside(guide) if discriminator is None else discriminator
        if isinstance(discriminator, AutoDiscriminator):
            discriminator.borrow(guide)
        super().__init__(model, discriminator, optim, optim_d, **options)
        self.model.calls.in_order = ()  # a tuple holds no latent sites
        self.guide = ImplicitModel(guide, None, self.device, self.model.move, role="guide")
        self._tell_large(guide)
        self.global_sites: tuple[str, ...] = ()
        self.latent_sites: tuple[str, ...] = ()
        self.observed_sites: tuple[str, ...] = ()
        self.hidden_names: set[str] = set()
        """Latent sites of the model that the data may hold, and that the guide is not given."""
        self.draws_single_rows = False
        """Whether a run of the model draws one row; it is then run for each."""
        self._event_shapes: dict[str, torch.Size] = {}
        self._observations: Observations | None = None
        self._loaded_observations: Observations | None = None
        self._latents: Observations | None = None

    def _tell_large(self, guide: Callable[..., Any]) -> None:
        """Have networks that build themselves heed large sites or not, before they do."""
        judges = ((each, self.discriminator_tells_large) for each in self.discriminator.functions())
        for network, tells in ((guide, self.guide_tells_large), *judges):
            if isinstance(network, SelfBuilding):
                network.tells_large = tells

    def players(self) -> dict[str, Player]:
        return {**super().players(), "guide": self.guide}

    def schedule(self, batches: Minibatches) -> list[Callback]:
        return [*super().schedule(batches), FinalMean(defaults_only=True)]

    def run_model(self, arguments: Arguments, num_rows: int, given: Mapping[str, Tensor] | None = None) -> Draw:
        """Run the model for rows: once or, where a run draws a single row, once for each.

        Args:
            arguments: How it is called.
            num_rows: The number of rows.
            given: Values of some sites by name, with shape `(num_rows, *event_shape)`.

        Returns:
            The run's handler; of several the last, with the values of all.
        """
        given = given or {}
        if not self.draws_single_rows:
            with ConditionMessenger(dict(given)):
                return self.model.draw(arguments)
        draws = []
        for number in range(num_rows):
            with ConditionMessenger({site: rows[number] for site, rows in given.items()}):
                draws.append(self.model.draw(arguments))
        drawn = joined(draws)
        drawn.values = self._as_data_have_them(drawn.values)
        return drawn

    def as_guided(self, values: dict[str, Tensor], guided: Draw) -> dict[str, Tensor]:
        """The model's draws, with labels of the guide's number type: counts may be of floating point in a model."""
        return {**values, **{site: values[site].to(guided.values[site].dtype) for site in guided.without_path}}

    def log_densities(self, *draws: Draw) -> tuple[Tensor, ...]:
        """Those of the latent draws without a gradient, of each run whose parameters they move, by row."""
        found = []
        for drawn in draws if torch.is_grad_enabled() else ():
            sites = [site for site in self.latent_sites if site in drawn.without_path]
            parts = [by_row(drawn.without_path[site].log_prob(drawn.values[site])) for site in sites]
            found += [torch.stack(parts).sum(0)] if any(part.requires_grad for part in parts) else []
        return tuple(found)

    def as_rows(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self.draws_single_rows:
            return values
        return self._as_data_have_them({site: value[None] for site, value in values.items()})

    def _as_data_have_them(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows of single draws in the event shapes of the data, where `Predictive` has filled these up with ones."""
        return {
            site: rows.reshape(len(rows), *self._event_shapes.get(site, rows.shape[1:]))
            for site, rows in values.items()
        }

    def visible(self, batch: Batch) -> Batch:
        """The part of a minibatch that the guide may see: all but the latent sites."""
        if not isinstance(batch, dict):
            return batch
        hidden = self.hidden_names.union(self.latent_sites)
        return {name: value for name, value in batch.items() if name not in hidden}

    def blanked(self, rows: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Rows with 0 for what a guide's masks say is not there.

        Args:
            rows: Rows by site.
            batch: The minibatch that they belong to.
        """
        guide = self.guide.function
        if not isinstance(guide, AutoImplicitGuide):
            return rows
        elements = batch.values() if isinstance(batch, dict) else batch
        names = list(batch) if isinstance(batch, dict) else guide.argument_names
        return guide.structure.blanked(rows, dict(zip(names, elements, strict=False)))

    def guide_arguments(self, batch: Batch) -> Arguments:
        return self.guide.calls.arguments(self.visible(batch))

    def typical_rows(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
        return {site: fake[site] if site in self.latent_sites else rows for site, rows in real.items()}

    def state_dict(self) -> dict[str, Any]:
        """As of every inference, and the shapes of what the guide was trained on."""
        state = super().state_dict()
        return state if self._observations is None else {**state, "observations": self._observations.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._loaded_observations = Observations.from_state_dict(state["observations"], self.device)

    def names_in_state(self) -> set[str]:
        return {*super().names_in_state(), "observations"}

    def _rows_of(self, value: Any, argument: str) -> tuple[Batch, bool]:
        """Observations as rows, and whether a single one was given; after `load`, the first look is at these."""
        forms = self._observations or self._loaded_observations
        if forms is None:
            raise not_known(argument, "load a state")
        rows, is_single = forms.rows(value, argument)
        if self._observations is None:
            first = resized_batch(rows, forms.num_rows)  # as many as in training, which a model may rely on
            with self.looking():
                self.get_to_know(first)
            self._last_batch = first
            self._observations = forms  # what was asked first need not hold all that training did
        if isinstance(self.guide.function, AutoImplicitGuide):
            self.guide.function.check_asked(rows)
        return rows, is_single

    @contextmanager
    def looking(self) -> Iterator[None]:
        """As of every inference; if it fails, nothing is known of sites and shapes that was not known before."""
        known = self.model.sites, self.guide.sites, self._observations, self._latents
        try:
            with super().looking():
                yield
        except BaseException:
            self.model.sites, self.guide.sites, self._observations, self._latents = known
            raise

    def get_to_know(self, batch: Batch) -> None:
        """Before the first draw: run model and guide once, match their sites, and note what the guide is given.

        Raises:
            ValueError: They do not match, or the guide's draws can not be learned from.
        """
        if self._observations is None:
            self._match_sites(batch)
            self.look_at_draws(batch)
        elif not self.model.is_known:  # a copy, whose simulations would not have it run the model
            self.model.look_at(self.model.calls.arguments(batch))

    def _match_sites(self, batch: Batch) -> None:
        """Find the latent and the observed sites, and have model and guide keep them."""
        asked, model_arguments = self.model.sites, self.model.calls.arguments(batch)
        self.model.look_at(model_arguments)
        arguments = self._arguments_at_first_sight(batch)
        if isinstance(batch, tuple) and max(len(model_arguments.args), len(arguments.args)) < len(batch):
            check_no_simulations(asked or (), len(batch))
        if isinstance(batch, tuple) and not any(map(can_be_compared, self.model.found.values())):
            check_no_simulations(tuple(self.model.found), len(batch))
        if hasattr(self.guide.function, "setup"):  # a guide that builds itself runs the model for that
            with self.guide.creating:
                self.guide.function.setup(*arguments.args, **arguments.kwargs)
        self.guide.look_at(arguments)
        named = self._named(batch, arguments)
        self.latent_sites = find_latent_sites(self.model.found, self.guide.found, asked)
        self.observed_sites = find_observed_sites(self.model.found, self.latent_sites, asked, named)
        for name in self.global_sites:
            if name not in self.latent_sites:
                raise ValueError(f"global_sites names {name!r}, but the guide draws {listed(self.latent_sites)}.")
        self.check_sites()
        self._tell_of_computed(batch)
        self.guide.sites = self.latent_sites
        self.model.sites = (*self.latent_sites, *self.observed_sites)
        rows = batch if isinstance(batch, dict) else dict(zip(self.observed_sites, batch, strict=False))
        self._event_shapes = {site: rows[site].shape[1:] for site in self.observed_sites if site in rows}
        self.draws_single_rows = draws_single_rows(self.model.found, self.observed_sites, rows)

    def _tell_of_computed(self, batch: Batch) -> None:
        """Warn of numbers among the data that are taken for no observation, since they may be meant as one."""
        known, found = {*self.latent_sites, *self.observed_sites}, self.model.found
        names = [name for name in batch if name in self.hidden_names] if isinstance(batch, dict) else []
        between = [name for name in names if name not in known and can_be_compared(found.get(name))]
        is_guess = all(found[site].is_candidate and not found[site].is_observed for site in self.observed_sites)
        if between and is_guess and not getattr(self.guide.function, "observed", ()):
            warnings.warn(
                f"the model computes {listed(between)} from its latents, and from that {listed(self.observed_sites)}: "
                f"the data's {listed(between)} is not taken for an observation. If it is one, name all of them, "
                f"AutoImplicitGuide(model, observed={[*between, *self.observed_sites]}).",
                stacklevel=2,
            )

    def check_sites(self) -> None:
        """Refuse sites that the algorithm can not work with; called once, when they are known.

        Raises:
            ValueError: There is one.
        """

    def _arguments_at_first_sight(self, batch: Batch) -> Arguments:
        """The guide's arguments while its sites are unknown: without latent sites, unless it asks for one by name."""
        found = self.model.found
        if hasattr(self.guide.function, "setup"):
            self.hidden_names = self._hidden_from_a_guide_that_builds_itself(batch)
        else:
            unknown = {name for name, site in found.items() if not can_be_compared(site)}
            self.hidden_names = unknown if len(unknown) < len(found) else set()
        with suppress(TypeError):
            return self.guide.calls.arguments(self.visible(batch))
        self.hidden_names = set()
        return self.guide.calls.arguments(batch)

    def _hidden_from_a_guide_that_builds_itself(self, batch: Batch) -> set[str]:
        """The sites that are no data, so far as the guide, the model or its draws' order tell."""
        arguments, names = self.model.calls.arguments(batch), list(batch) if isinstance(batch, dict) else []
        function, asked = self.guide.function, [*(self.model.sites or ())]
        if isinstance(function, AutoImplicitGuide):
            asked.extend([*function.structure.sites(), *function.structure.masks.values()])
        with self.model.creating:
            return hidden_sites(
                self.model.found,
                lambda: dependence(self.model.function, arguments, names),
                getattr(function, "observed", ()),
                asked,
                names,
                lambda: noisy(self.model.function, arguments),
            )

    def _named(self, batch: Batch, arguments: Arguments) -> list[str]:
        """The sites by whose names the data hold something to compare, or whose only data they are."""
        found = self.model.found
        if isinstance(batch, dict):
            names = [name for name in batch if name not in self.hidden_names]
            return [name for name in names if name in arguments.kwargs or can_be_compared(found.get(name))]
        shown = [name for name in found if self.hidden_names and name not in self.hidden_names]
        declared = [name for name in shown if name in getattr(self.guide.function, "observed", ())]
        return next((names for names in (declared, shown) if len(names) == 1), [])

    def look_at_draws(self, batch: Batch) -> None:
        """Check draws of the guide, and note their shapes and those of what it is given."""
        visible, arguments = self.visible(batch), self.guide_arguments(batch)
        with torch.enable_grad():
            drawn = self.guide.draw(arguments)
        check_moved(drawn, self.model.trainable())
        local = self._local(drawn.values)
        check_rows(local, number_of_rows(batch))
        shared = {site: drawn.values[site][None] for site in self.global_sites}
        self._latents = Observations({**local, **shared}, self.device)
        order = [name for name in arguments.kwargs if name in visible] or list(map(str, visible))
        guide, free = self.guide.function, set[Any]()
        if isinstance(guide, AutoImplicitGuide):  # of which an observation without its mask has all its entries
            order.sort(key=lambda name: name in guide.structure.masks.values())
            names = list(visible) if isinstance(visible, dict) else guide.argument_names
            keys = (key for key, _ in named(visible))
            free = {key for key, name in zip(keys, names, strict=False) if name in guide.structure.free}
        self._observations = Observations(visible, self.device, order, free)

    def _local(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {site: value for site, value in values.items() if site not in self.global_sites}


def not_known(argument: str, or_else: str) -> ValueError:
    """The error where something is used whose shapes are not known before a step."""
    return ValueError(
        f"no step has been taken, so that {argument} can not be used yet. Call run or step first, or {or_else}."
    )
