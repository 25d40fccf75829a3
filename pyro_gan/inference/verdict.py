"""The verdict on a fit: what was found, in words, as a table and as a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyro_gan.checks import listed, shown
from pyro_gan.criticism.findings import Finding
from pyro_gan.plots import plot_checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBLEMS = {
    "not finite": ("draws hold NaN or infinity", "Look at the model at the parameters that it has now."),
    "drifting": (
        "parameters were still on their way when the run ended",
        "Run longer, or give them a higher rate (optim).",
    ),
    "collapsed": (
        "the draws have collapsed and lack a part of the data",
        "Use the default loss and penalties, let the model draw more noise, or lower the rates (optim, optim_d).",
    ),
    "memorizing": ("the draws copy training rows", "Use more rows, a smaller model, or a shorter run."),
    "out of reach": (
        "the simulator hardly ever makes observations like these",
        "No posterior of it can be trusted there: look at the simulator, and at the observations.",
    ),
    "over-confident": (
        "the posterior is too narrow, and misses the truth more often than it says",
        "Simulate more rows, run longer, or give the energy score a greater weight (energy_weight).",
    ),
    "under-confident": (
        "the posterior is too wide, and holds the truth more often than it says",
        "Run longer, or use a larger guide.",
    ),
    "biased": ("the posterior is to one side of the truth", "Run longer, or use a larger guide."),
    "miscalibrated": (
        "the posterior is another than the true one, though not in its width on average",
        "Run longer, or use a larger guide.",
    ),
    "different": ("the draws differ from the held-out rows", "Run longer, or use a larger model and discriminator."),
    "out of balance": (
        "one player has left the other behind",
        "Compare the numbers of updates (discriminator_steps) and the rates (optim, optim_d).",
    ),
}
"""What can be wrong in a word or two, in a sentence, and what to try; what explains the others comes first."""


class Report:
    """What :meth:`~pyro_gan.GANInference.check` found.

    Args:
        name: What was checked, such as the class.
        table: What was found.
        basis: On how much, in words.

    Attributes:
        table: A :class:`~pyro_gan.criticism.findings.Finding` a measure, with `name`, `value`, `expected`, `passed`,
            `where` (the feature that is worst), `problem` and `off` (1 at the limit); `pandas.DataFrame(report.table)`
            is a table of them.
        passed: Whether nothing is wrong.
        problems: What is wrong, the likeliest cause first, of "not finite", "drifting", "collapsed", "memorizing",
            "out of reach", "over-confident", "under-confident", "biased", "miscalibrated", "different" and
            "out of balance".
    """

    def __init__(self, name: str, table: Sequence[Finding], basis: str) -> None:
        self.name = name
        self.table = list(table)
        self.basis = basis
        found = {each.problem for each in self.table if not each.passed}
        if found & {"over-confident", "under-confident", "biased"}:  # which say more of the same
            found.discard("miscalibrated")
        if "drifting" in found:  # draws that have not arrived may lack what they will not lack there
            found.discard("collapsed")
        self.problems = [problem for problem in PROBLEMS if problem in found]
        self.passed = not self.problems

    @property
    def verdict(self) -> str:
        """The verdict in one line, with the numbers behind it."""
        if self.passed:
            return f"{self.name} passed: all that was looked at is within its limits."
        first, *rest = self.problems
        behind = [_with_number(each) for each in self.table if each.problem == first]
        also = f" Also: {', '.join(rest)}." if rest else ""
        what, mend = PROBLEMS[first]
        return f"{self.name} did not pass ({first}): {what} ({'; '.join(behind)}).{also} {mend}"

    def __getitem__(self, name: str) -> Finding:
        """A measure by its name.

        Raises:
            KeyError: It was not taken; the message has those that were.
        """
        for each in self.table:
            if each.name == name:
                return each
        names = listed(each.name for each in self.table)
        raise KeyError(f"the report has no measure {shown(name)}. It has {names}.")

    def __str__(self) -> str:
        """The verdict, and the table."""
        rows = [("measure", "value", "expected", "", "")]
        rows += [(each.name, f"{each.value:.3g}", each.expected, _word(each), each.where) for each in self.table]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self.verdict, "", *lines, "", self.basis])

    __repr__ = __str__

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the measures beside their limits.

        Args:
            ax: The axes to draw on; by default new ones.

        Returns:
            The axes.
        """
        labels = [f"{each.value:.3g} ({each.expected})" for each in self.table]
        off, passed = [each.off for each in self.table], [each.passed for each in self.table]
        drawn = plot_checks([each.name for each in self.table], off, passed, labels, ax=ax)
        drawn.set_title(f"{self.name}: {'passed' if self.passed else ', '.join(self.problems)}", fontsize="medium")
        return drawn


def _word(found: Finding) -> str:
    if not found.passed:
        return "not ok"
    return "ok" if found.off <= 1 else "ok, by chance"


def _with_number(found: Finding) -> str:
    where = f" of {found.where}" if found.where else ""
    return f"{found.name}{where} {found.value:.3g}, expected {found.expected}"
