"""Which sites a guide draws for its model, which are data, and whether the guide's draws can be learned from."""

from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor

from pyro_gan.checks import listed
from pyro_gan.players.dependence import Kind, data_sites
from pyro_gan.players.discrete import log_probabilities
from pyro_gan.players.handler import Draw, Site, is_one_of


def find_latent_sites(model: dict[str, Site], guide: dict[str, Site], asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The sites that the guide draws for the model.

    Args:
        model: The model's sites by name.
        guide: The guide's sites by name.
        asked: The sites that the user named; `None` stands for all.

    Raises:
        ValueError: There are none, one is not in the model, is discrete in the guide alone, or carries no gradient.
    """
    drawn = {name: site for name, site in guide.items() if not site.is_observed}
    strangers = [name for name, site in drawn.items() if name not in model and site.distribution != "Delta"]
    if strangers:
        raise ValueError(
            f"the guide draws site {strangers[0]!r}, but the model has {listed(model) or 'no sites'}. "
            "Name the guide's sites as the model's; mark those of the guide alone with infer={'is_auxiliary': True}."
        )
    drawn = {name: site for name, site in drawn.items() if name in model}  # others tell of values, as in a trace
    for name, site in drawn.items():
        if site.is_finite and not (model[name].support.is_discrete or model[name].is_candidate):
            raise ValueError(
                f"the guide's site {name!r} ({site}) is discrete, but the model's ({model[name]}) is continuous. Draw "
                "both from distributions of one kind."
            )
        if not (site.is_reparameterized or site.is_finite):
            raise ValueError(
                f"the guide's site {name!r} ({site}) carries no gradient. Use a reparameterized distribution, "
                "pyro.deterministic on noise through a network, or for a discrete site a Categorical or Bernoulli."
            )
    latent = tuple(name for name in drawn if asked is None or name in asked)
    if not latent:
        raise ValueError(f"the guide draws none of the model's sites, {listed(asked or model)}. Draw at least one.")
    return latent


def find_observed_sites(
    model: dict[str, Site], latent: tuple[str, ...], asked: tuple[str, ...] | None, named: Sequence[str]
) -> tuple[str, ...]:
    """The sites that are data: those asked for, else those that the data name, else the only one that is left.

    Args:
        model: The model's sites by name.
        latent: The sites that the guide draws.
        asked: The sites that the user named; `None` stands for all.
        named: The sites by whose names the data hold something that can be compared.

    Raises:
        ValueError: The guide lacks a latent site of the model, or no single site is left.
    """
    left = [name for name in (asked or model) if name not in latent]
    candidates = [name for name in left if can_be_compared(model[name])]
    observed = [name for name in left if name in named] or candidates or left
    if asked is not None:
        observed = [name for name in left if name in named or name in candidates] or left
    missing = [name for name in left if name not in candidates and name not in observed]
    if missing or (len(observed) > 1 and not candidates and not set(observed) <= set(named)):
        name = (missing or observed)[0]
        raise ValueError(
            f"the guide has no site {name!r}, which the model draws. Draw it in the guide, or name the sites to "
            f"compare, with site={[*latent, *(observed if missing else ['...'])]!r}."
        )
    if not observed and asked is not None:
        raise ValueError(
            f"site names {listed(asked)}, all of which the guide draws: none is left to be compared with "
            "the data. Name an observed site too."
        )
    if not observed:
        raise ValueError(
            f"the guide draws all of the model's sites, {listed(latent)}: none is left to be compared "
            "with the data. Observe one in the model, or leave it out of the guide; of an AutoImplicitGuide, by "
            "observed='...'."
        )
    if asked is None and len(observed) > 1 and not set(observed) <= set(named):
        likely = [name for name in observed if model[name].is_observed] or observed[:1]
        raise ValueError(
            f"the model has several sites to compare with the data: {listed(observed)}. "
            f"Choose with site={[*latent, *likely]!r}."
        )
    return tuple(observed)


def hidden_sites(
    model: dict[str, Site],
    dependence: Callable[[], Mapping[str, Collection[str]]],
    declared: Collection[str],
    asked: Collection[str],
    names: Collection[str],
    noisy: Callable[[], Collection[str]],
) -> set[str]:
    """The sites that the data may hold, and that a guide is not given: all that are no data.

    Args:
        model: The model's sites by name.
        dependence: As of :func:`~pyro_gan.players.dependence.data_sites`.
        declared: The sites of which the guide says that they are data.
        asked: The sites that the user named, to be compared or to the guide.
        names: What the data hold by name.
        noisy: As of the same.

    Returns:
        Their names; none where nothing tells.
    """
    kinds = {name: _kind(site) for name, site in model.items()}
    data = data_sites(kinds, dependence, set(declared) & set(model), asked, names, noisy)
    return set(model) - data if data else set()


def _kind(site: Site) -> Kind:
    if site.is_observed:
        return Kind.OBSERVED
    return Kind.COMPUTED if site.is_candidate else Kind.RANDOM


def draws_single_rows(model: dict[str, Site], observed: Collection[str], rows: Mapping[str, Tensor]) -> bool:
    """Whether a run of the model draws a single row of the data.

    Args:
        model: The model's sites by name.
        observed: The sites that are data.
        rows: The real rows of those of which it is known, with shape `(num_rows, *event_shape)`.
    """
    return bool(rows) and all(is_one_of(rows[site], model[site].shape) for site in observed if site in rows)


def can_be_compared(site: Site | None) -> bool:
    """Whether a site of the model can be compared with data without being named."""
    return site is not None and (site.is_observed or site.is_candidate)


def check_no_simulations(asked: tuple[str, ...], number: int) -> None:
    """Refuse a tuple of as many elements as there are sites, which neither model nor guide takes in order.

    Raises:
        ValueError: It is one.
    """
    if len(asked) == number > 1:
        raise ValueError(
            f"the minibatch is a tuple of {number}, as many as the sites {listed(asked)}, but nothing "
            f"tells which is which. Pass simulations as a mapping, run({{{asked[0]!r}: ..., ...}}), or the data alone."
        )


def check_moved(drawn: Draw, trainable: list[str]) -> None:
    """Refuse a guide whose draws do not depend on what it should learn.

    Raises:
        ValueError: They depend on none of its parameters, or there are none to learn at all.
    """
    sites = ", ".join(map(repr, drawn.values))
    if not drawn.parameters and not trainable:
        raise ValueError(
            "neither the guide nor the model has parameters to train: they register none with Pyro that require a "
            "gradient. Register the guide's networks with pyro.module('guide', network) and its numbers with "
            "pyro.param."
        )
    moved = [*drawn.values.values(), *map(log_probabilities, drawn.without_path.values())]
    if drawn.parameters and not any(value.requires_grad for value in moved):
        raise ValueError(
            f"the guide's draws of {sites} carry no gradient to its parameters "
            f"({listed(drawn.parameters)}). Compute them from these, without detach() or no_grad()."
        )


def check_rows(values: dict[str, Tensor], num_rows: int) -> None:
    """Refuse latent sites without a row for each row that the guide was given.

    Raises:
        ValueError: There is one; the message has its shape.
    """
    for site, value in values.items():
        if value.dim() == 0 or len(value) != num_rows:
            raise ValueError(
                f"the guide's site {site!r} has shape {tuple(value.shape)}, but the guide was given {num_rows} rows, "
                "and a latent site needs one for each, in front. Draw it in a pyro.plate of the rows, whose dim is to "
                "the left of other plates'; a site that all rows share is one of ImplicitKLqp's global_sites."
            )
