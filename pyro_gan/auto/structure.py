"""How observations are put together, as users say it: which are sets or series, which have gaps, which are embedded."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from pyro_gan.checks import listed, shown


class Structure(NamedTuple):
    """What is not rows of one shape with all their entries."""

    sets: tuple[str, ...] = ()
    """Sites of which a row is a set: any number of elements in any order."""
    series: tuple[str, ...] = ()
    """Sites of which a row is a series: any number of elements one after the other."""
    masks: Mapping[str, str] = {}
    """By site, the name of what says which of its entries are there."""
    embedding: Mapping[str, nn.Module] = {}
    """By site, the user's module that makes features of its rows."""

    @classmethod
    def of(cls, sets: Any, series: Any, masks: Any, embedding: Any) -> Self:
        """A structure from the arguments of these names.

        Raises:
            TypeError: One is of the wrong kind; the message names it.
            ValueError: A site is a set and a series.
        """
        found = cls(_names("sets", sets), _names("series", series), masks or {}, embedding or {})
        for argument, values, kind, wanted in (
            ("masks", found.masks, str, "{'x': 'mask'}, of a site's name and that of its mask"),
            ("embedding", found.embedding, nn.Module, "{'x': module}, of a site's name and an nn.Module"),
        ):
            is_map = isinstance(values, Mapping) and all(isinstance(name, str) for name in values)
            if not is_map or not all(isinstance(value, kind) for value in values.values()):
                raise TypeError(f"{argument} must be a mapping such as {wanted}, but is {shown(values)}.")
        both = set(found.sets) & set(found.series)
        if both:
            raise ValueError(
                f"sets and series both name {min(both)!r}. Name it in sets if the order of its elements does not "
                "matter, else in series."
            )
        return found

    @property
    def free(self) -> frozenset[str]:
        """The names of what may have any length in its first dimension after the rows': sets, series, their masks."""
        sites = {*self.sets, *self.series}
        return frozenset(sites | {mask for site, mask in self.masks.items() if site in sites})

    def sites(self) -> dict[str, str]:
        """The sites that are named, and the argument that names each."""
        named = {**dict.fromkeys(self.masks, "masks"), **dict.fromkeys(self.embedding, "embedding")}
        return {**named, **dict.fromkeys(self.series, "series"), **dict.fromkeys(self.sets, "sets")}

    def among(self, sites: Collection[str]) -> Self:
        """What is said of some sites."""
        return self._replace(
            sets=tuple(site for site in self.sets if site in sites),
            series=tuple(site for site in self.series if site in sites),
            masks={site: mask for site, mask in self.masks.items() if site in sites},
            embedding={site: module for site, module in self.embedding.items() if site in sites},
        )

    def blanked(self, rows: Mapping[str, Tensor], others: Mapping[str, Any]) -> dict[str, Tensor]:
        """Rows with 0 for what is not there, whatever numbers fill them up.

        Args:
            rows: Rows by site.
            others: What else there is by name, where a mask is not among the rows.
        """
        blanked = dict(rows)
        for site, name in self.masks.items():
            mask = rows.get(name, others.get(name))
            if site in rows and isinstance(mask, Tensor):
                there = mask.reshape(*mask.shape, *(rows[site].dim() - mask.dim()) * (1,))
                blanked[site] = torch.where(there, rows[site], torch.zeros_like(rows[site]))
        return blanked

    def filled_up(self, rows: Mapping[str, Tensor], lengths: Mapping[str, int]) -> dict[str, Tensor]:
        """Sets and series that have masks, filled up with 0 where they are shorter than simulations.

        Args:
            rows: Rows by name.
            lengths: The length of simulations by site.
        """
        filled = dict(rows)
        for site in (*self.sets, *self.series):
            values, mask = rows.get(site), self.masks.get(site)
            missing = 0 if values is None or mask is None else lengths[site] - values.shape[1]
            if values is not None and mask is not None and missing > 0:
                there = (
                    rows[mask] if mask in rows else torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
                )
                for name, each in ((site, values), (mask, there)):
                    filled[name] = torch.cat([each, each.new_zeros(len(each), missing, *each.shape[2:])], 1)
        return filled

    def check(self, role: str, rows: Mapping[str, Tensor], needs_masks: bool = True) -> None:
        """Refuse names that nothing has.

        Args:
            role: What has been given the structure, for the message.
            rows: What it is called with by name.
            needs_masks: Whether masks have to be among it.

        Raises:
            ValueError: A site or a mask is not among the rows; the message names the argument.
        """
        for site, argument in self.sites().items():
            if site not in rows:
                raise ValueError(
                    f"{argument} of the {role} names the site {site!r}, but the {role} is called with "
                    f"{listed(name for name in rows if name not in self.masks.values())}. Name one of these."
                )
        for site, mask in self.masks.items() if needs_masks else ():
            if mask not in rows:
                raise ValueError(
                    f"masks of the {role} names {mask!r} as the mask of {site!r}, but the {role} is called with "
                    f"{listed(rows)}. Pass it by name beside the others, run({{{site!r}: ..., {mask!r}: ...}}), or "
                    "leave out masks= if all entries are there."
                )


def _names(argument: str, value: str | Sequence[str] | None) -> tuple[str, ...]:
    names = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be a site's name or a list of names, but is {shown(value)}.")
    return tuple(names)
