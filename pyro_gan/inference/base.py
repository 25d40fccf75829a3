"""What every adversarial inference shares: the step, the run, and what can be asked afterwards.

An algorithm compares two samples of the same sites. The discriminator learns to tell them apart, which estimates the
log of their density ratio; the generator's side descends along that estimate. A subclass says which two samples
(:meth:`AdversarialInference.draw`); the loss says what each player minimizes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import islice, repeat
from operator import add, or_
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypedDict

import pyro
import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.auto import AutoDiscriminator
from pyro_gan.auto.building import kept_unbuilt
from pyro_gan.callbacks import Callback, FallingRates, progress_callbacks
from pyro_gan.checks import positive_integer
from pyro_gan.export import to_inference_data
from pyro_gan.losses import Loss, LossFunction, Wasserstein, as_loss
from pyro_gan.penalties import Judgement, Penalty, PenaltyFunction, as_penalties
from pyro_gan.players.batch import Batch, as_batch
from pyro_gan.players.calls import Arguments
from pyro_gan.players.devices import resolve_device
from pyro_gan.players.discriminator import Discriminator, check_logits, leaves
from pyro_gan.players.first_look import dropped_parameters, kept_buffers, kept_random_state
from pyro_gan.players.model import ImplicitModel
from pyro_gan.players.player import Player
from pyro_gan.players.replicates import Replicates, draw_replicates
from pyro_gan.players.selection import Selection
from pyro_gan.recipes import default_loss, default_penalties
from pyro_gan.training.averaging import MovingAverage
from pyro_gan.training.loop import train
from pyro_gan.training.minibatches import minibatches
from pyro_gan.training.optimizers import OptimizerChoice, PlayerOptimizer
from pyro_gan.training.record import StepRecord
from pyro_gan.training.samples import Samples

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import DataTree

NUM_ROWS_FOR_CONSTANT = 10_000

LossChoice = Loss | tuple[LossFunction, LossFunction] | None
"""What a user may pass as `loss`: one of :mod:`pyro_gan.losses`, or a pair of callables."""

PenaltyChoice = PenaltyFunction | Sequence[PenaltyFunction] | None
"""What a user may pass as `penalty`: one of :mod:`pyro_gan.penalties`, any callable on a judgement, or several."""

PlayerName = Literal["generator", "discriminator"]


class StepLosses(NamedTuple):
    """The losses of a step, detached 0-dimensional tensors in nats; `None` for a player that was not updated."""

    generator: Tensor | None
    discriminator: Tensor | None


class SharedOptions(TypedDict, total=False):
    """What every inference class takes beside its own arguments; :class:`~pyro_gan.GANInference` describes them."""

    site: str | Sequence[str] | None
    generator_steps: int
    only: str | Sequence[str] | None
    exclude: str | Sequence[str]
    ema_decay: float | None
    clip_norm: float | None
    clip_norm_d: float | None
    device: str | torch.device | None


class Options(SharedOptions, total=False):
    """What those take beside that have no loss, penalty and number of steps of their own."""

    loss: LossChoice
    penalty: PenaltyChoice
    discriminator_steps: int


class AdversarialInference(ABC):
    """The base of all inference classes; see :class:`~pyro_gan.GANInference` for the arguments."""

    guide_moves_real = False
    """Whether the real rows hold draws of a guide, which the generator's optimizer moves too."""

    latent_sites: tuple[str, ...] = ()
    """The compared sites that are no data; a guide draws them."""

    def __init__(
        self,
        model: Callable[..., Any],
        discriminator: Callable[..., Tensor] | None = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        *,
        loss: LossChoice = None,
        penalty: PenaltyChoice = None,
        site: str | Sequence[str] | None = None,
        discriminator_steps: int = 1,
        generator_steps: int = 1,
        only: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        ema_decay: float | None = None,
        clip_norm: float | None = None,
        clip_norm_d: float | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        discriminator = AutoDiscriminator() if discriminator is None else discriminator
        self.loss = default_loss() if loss is None else as_loss(loss)
        self.penalties = default_penalties() if loss is None and penalty is None else as_penalties(penalty)
        _check_bounded(self.loss, penalty)
        self.device = resolve_device(device, discriminator)
        self.model = ImplicitModel(model, site, self.device, move=device is not None)
        self.discriminator = Discriminator(discriminator, self.device, move=device is not None)
        self.optim = PlayerOptimizer(optim, "optim", clip_norm)
        self.optim_d = PlayerOptimizer(optim_d, "optim_d", clip_norm_d)
        self.discriminator_steps = positive_integer("discriminator_steps", discriminator_steps)
        self.generator_steps = positive_integer("generator_steps", generator_steps)
        self.selection = Selection(only, exclude)
        self.average = None if ema_decay is None else MovingAverage(ema_decay)
        self.num_steps_taken = 0
        self.history: dict[str, list[Any]] = {"step": [], **{name: [] for name in StepRecord._fields}}
        self.notes: dict[int, dict[str, float]] = {}
        self._last_arguments: Arguments | None = None
        self._is_ready = False

    @abstractmethod
    def draw(self, batch: Batch) -> Samples:
        """Draw the two samples to compare.

        Args:
            batch: A minibatch of data.

        Returns:
            The samples by site, each with shape `(num_rows, *event_shape)`, and the parameters that were used.
        """

    def draw_for_generator(self, batch: Batch) -> Samples:
        """Draw what the generator's side descends on; by default the two samples of :meth:`draw`, drawn afresh."""
        return self.draw(batch)

    def run(
        self,
        data: Any,
        *,
        num_steps: int = 1000,
        batch_size: int = 128,
        transform: Callable[..., Any] | None = None,
        progress: bool = True,
        print_every: int | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> Self:
        """Train on data.

        Args:
            data: The observations: a tensor or array with shape `(num_rows, *event_shape)`, a tuple of such or a
                mapping of them by name, a `Dataset`, a `DataLoader`, or any iterable of minibatches. Arrays are placed
                on the device once; rows are then drawn epoch by epoch without replacement, in full minibatches.
            num_steps: The number of steps. Each updates the discriminator `discriminator_steps` times and then the
                generator `generator_steps` times, and takes as many minibatches as the greater of both.
            batch_size: The rows of a minibatch, at most all there are.
            transform: Applied to each minibatch on the device, such as `lambda x: x / 255`.
            progress: Whether to show progress: a bar in a terminal or a notebook, else plain lines.
            print_every: The number of steps between plain lines, where there is no bar; by default a tenth of the run.
            callbacks: What else to do during the run, as :class:`~pyro_gan.callbacks.Callback` objects.

        Returns:
            The inference itself.

        Raises:
            TypeError, ValueError: An argument or the data do not fit, or a loss is NaN or infinite; see the message.
        """
        num_steps = positive_integer("num_steps", num_steps)
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be pyro_gan.callbacks.Callback objects, but one is {callback!r}.")
        callbacks = [*progress_callbacks(progress, print_every), *given]
        batches = minibatches(data, batch_size, self.device, transform)
        train(self, batches, num_steps, [*self.schedule(), *callbacks])
        return self

    def schedule(self) -> list[Callback]:
        """What a run does along its course where the user left the choice of optimizers and penalties to it."""
        return [FallingRates()]

    def step(self, *batch: Any, player: PlayerName | None = None) -> StepLosses:
        """Take one step on a minibatch: `discriminator_steps` updates of the discriminator, then the generator's.

        Args:
            batch: The minibatch, as the model would be given it by `SVI.step`; arrays with shape
                `(num_rows, *event_shape)`, or one mapping of them by name.
            player: `"generator"` or `"discriminator"` to update that one alone.

        Returns:
            The losses before each player's last update. Reading their values waits for the device; nothing else does.

        Raises:
            TypeError, ValueError: The model, the discriminator or the minibatch do not fit; nothing has changed then.
        """
        if player not in (None, "generator", "discriminator"):
            raise ValueError(f"player must be 'generator', 'discriminator' or None for both, but is {player!r}.")
        record = self.take_step(repeat(self._batch(batch)), player)
        return StepLosses(record.generator_loss, record.discriminator_loss)

    def take_step(self, batches: Iterator[Batch], player: PlayerName | None = None) -> StepRecord:
        """Take one step on a stream of minibatches, a fresh one for each update of the discriminator."""
        k, g = self.discriminator_steps, self.generator_steps
        number = {"generator": g, "discriminator": k}.get(player or "", max(k, g))
        minibatches = list(islice(batches, number))
        if len(minibatches) < number:
            raise ValueError(
                f"the data ran out at step {self.num_steps_taken + 1}: an iterator can be read only once. Pass "
                "something that can be read again, such as a list or a DataLoader, or an endless generator."
            )
        self._get_ready(minibatches[0])
        record = StepRecord()
        if player != "generator":
            for batch in minibatches[:k]:
                record = self._update_discriminator(batch)
            self.optim_d.advance_schedule()
        if player != "discriminator":
            for batch in minibatches[-g:]:
                record = record._replace(generator_loss=self._update_generator(batch))
            self.optim.advance_schedule()
        self.num_steps_taken += 1
        return record

    def note(self, **values: float) -> None:
        """Note numbers at the present step of a run, such as a criticism's; they enter the history with the step.

        Args:
            values: Numbers by name; each name becomes a list in the history, with NaN at the steps without a note.

        Raises:
            ValueError: A name belongs to the history's own.
        """
        taken = {"step", *StepRecord._fields} & set(values)
        if taken:
            raise ValueError(f"{min(taken)!r} is in the history already. Note the number under another name.")
        self.notes.setdefault(self.num_steps_taken, {}).update({name: float(value) for name, value in values.items()})

    def evaluate_loss(self, *batch: Any) -> StepLosses:
        """The losses of both players on a minibatch, without changing anything.

        Args:
            batch: As in :meth:`step`.

        Returns:
            Both losses without penalties, detached 0-dimensional tensors in nats. New noise is drawn for each call, as
            in `SVI.evaluate_loss`.
        """
        values = self._batch(batch)
        self._get_ready(values)
        with torch.no_grad(), kept_buffers():
            samples = self.draw(values)
            real_logits, fake_logits = self.discriminator(samples.real), self.discriminator(samples.fake)
            discriminator_loss = _total(self.loss.discriminator(real_logits, fake_logits))
            return StepLosses(self.generator_loss(self.draw_for_generator(values)), discriminator_loss)

    def sample(self, num_samples: int, *args: Any, averaged: bool = False) -> Tensor | dict[str, Tensor]:
        """Draw the compared sites from the model as it stands.

        Modules are used in the mode they are in, and keep their batch statistics: call `.eval()` on them beforehand
        where that matters.

        Args:
            num_samples: The number of rows.
            args: The model's arguments. By default a model that needs some is given those of the last step.
            averaged: Whether to draw with the moving averages of the parameters, which `ema_decay` keeps.

        Returns:
            The compared site's rows, with shape `(num_samples, *event_shape)`; where several sites are compared, a
            dictionary of such by site.

        Raises:
            TypeError: `num_samples` is no integer, or the model's arguments are missing.
            ValueError: `num_samples` is not positive, the model draws no rows, or no averages are kept.
        """
        num_samples = positive_integer("num_samples", num_samples)
        arguments = self.model.calls.sample_arguments(args, self._last_arguments, num_samples)
        if averaged:
            if not self.model.is_known:  # its parameters have not been met
                self.model.look_at(arguments)
            with self.averaged():
                return self.sample(num_samples, *args)
        parts: list[dict[str, Tensor]] = []
        missing = num_samples
        with torch.no_grad(), kept_buffers():
            while missing > 0:
                values = self.as_rows(self.model.draw(arguments).values)
                num_rows = min(len(value) if value.dim() else 0 for value in values.values())
                if not num_rows:
                    raise ValueError("the model draws no rows. Draw them in a plate with at least one row.")
                parts.append({name: value[:missing] for name, value in values.items()})
                missing -= num_rows
        drawn = {name: torch.cat([part[name] for part in parts]).detach() for name in parts[0]}
        return drawn if len(drawn) > 1 else next(iter(drawn.values()))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the generator's parameters have the values of their moving averages.

        Raises:
            ValueError: No averages are kept.

        Example:
            >>> inference = GANInference(model, discriminator, ema_decay=0.999)        # doctest: +SKIP
            >>> with inference.averaged():                                             # doctest: +SKIP
            ...     draws = pyro.infer.Predictive(model, num_samples=100)()
        """
        if self.average is None:
            raise ValueError("no averages of the parameters are kept. Pass ema_decay=0.999 to the constructor.")
        if self.average.values and not self.generator_parameters():
            raise ValueError(
                "the parameters to average are not known before the model has been run. After load, call sample or "
                "evaluate_loss first."
            )
        with self.average.applied(self.generator_parameters()):
            yield

    def log_ratio(self, x: Any) -> Tensor:
        r"""The discriminator's estimate of :math:`\log p_\text{data}(x) - \log p_\text{model}(x)`.

        Args:
            x: Rows of the compared site, with shape :math:`(N, *)`; where several are compared, a mapping by site.

        Returns:
            The estimate for each row in nats, with shape :math:`(N,)`. Where the loss leaves a constant open, it is
            such that the ratio's mean over 10,000 rows of the model is 1; they are drawn with a seed of their own.

        Raises:
            TypeError: The loss leaves a constant open, and no step has been taken that tells how to call the model.
            ValueError: The loss implies no ratio.

        References:
            Goodfellow et al. (2014), proposition 1: the best discriminator's logit is this ratio.
        """
        if not self.loss.implies_log_ratio:
            self.loss.log_ratio(torch.zeros(()))  # it raises the error that says why
        values = as_batch(x, self.device)
        rows = values if isinstance(values, dict) else {"x": values[0]}
        precision = next((leaf.dtype for leaf in self.discriminator.parameters.values()), torch.get_default_dtype())
        rows = {site: value.to(precision) if value.is_floating_point() else value for site, value in rows.items()}
        with torch.no_grad(), kept_buffers():
            ratio = self.loss.log_ratio(self.discriminator(rows))
            return ratio - self._log_mean_ratio() if self.loss.leaves_constant_open else ratio

    def to_inference_data(self, *batch: Any, num_draws: int = 100) -> "InferenceData | DataTree":
        """Export to ArviZ: data, draws of the model as it stands, and the training history.

        Args:
            batch: The data, as in :meth:`step`; `num_draws` data sets of as many rows are drawn and kept in memory.
            num_draws: The number of replicated data sets.

        Returns:
            ArviZ's container, with the groups of :mod:`pyro_gan.export`: the noise and other latent sites in `prior`,
            the compared sites in `posterior_predictive`, `observed_data`, and `training_history`. With a guide, its
            draws are in `posterior`, what the model makes of them in `posterior_predictive`, and what it makes of the
            prior in `prior_predictive`.

        Raises:
            ImportError: ArviZ is not installed.
            TypeError, ValueError: As in :meth:`step`, or `num_draws` is no positive integer.
        """
        num_draws = positive_integer("num_draws", num_draws)
        values = self._batch(batch)
        self._get_ready(values)
        arguments = self.model.calls.arguments(values)
        with torch.no_grad(), kept_buffers():
            replicates = draw_replicates(self.model, arguments, num_draws)
            groups = self.draws_to_export(values, arguments, replicates, num_draws)
        observed = self.model.calls.real(replicates.last, arguments, values, self.latent_sites)
        constant = {
            name: value
            for name, value in self.model.calls.named_arguments(arguments).items()
            if isinstance(value, Tensor) and not any(value is rows for rows in replicates.last.observed.values())
        }
        plates = next(iter(replicates.dims[site] for site in observed))
        return to_inference_data(
            **groups,
            observed_data=observed,
            constant_data=constant or None,
            history=self.history,
            dims={**replicates.dims, **dict.fromkeys(constant, plates[:1])},
            seed=torch.initial_seed(),
            settings={
                "algorithm": type(self).__name__,
                "loss": type(self.loss).__name__,
                "discriminator_steps": self.discriminator_steps,
                "num_steps_taken": self.num_steps_taken,
                "device": str(self.device),
            },
        )

    def draws_to_export(
        self, batch: Batch, arguments: Arguments, replicates: Replicates, num_draws: int
    ) -> dict[str, dict[str, Tensor] | None]:
        """The groups of draws for ArviZ by name, of which `replicates` are the model's own."""
        return {"prior": replicates.latent or None, "posterior_predictive": replicates.compared}

    def state_dict(self) -> dict[str, Any]:
        """The state of both players, their optimizers, the step count and the history.

        Returns:
            A dictionary of tensors, numbers, strings, lists and dictionaries, which `torch.save` writes and
            `torch.load(weights_only=True)` reads.

        Raises:
            ValueError: No step has been taken, so there is no state yet.
        """
        if not self._is_ready:
            raise ValueError("there is no state before the first step. Call run or step first.")
        return {
            "num_steps_taken": self.num_steps_taken,
            "history": {name: list(values) for name, values in self.history.items()},
            "average": None if self.average is None else self.average.state_dict(),
            **{name: player.state_dict() for name, player in self.players().items()},
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state, so that training and sampling go on from it.

        Before the first step the parameters are not known yet; they then take their values as the model and the
        discriminator are first run.

        Raises:
            ValueError: This is no state, or one of another model or discriminator: parameters differ in name or shape.
        """
        players = self.players()
        if not isinstance(state, dict) or set(state) != self.names_in_state():
            raise ValueError("expected a state that state_dict() returned, but this is none. Pass what it returned.")
        for name, player in players.items():
            player.check_state_dict(state[name])
        for name, player in players.items():
            player.load_state_dict(state[name])
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state[name])
        if self.average is not None:
            self.average.load_state_dict(state["average"] or MovingAverage(self.average.decay).state_dict())
        self.num_steps_taken = state["num_steps_taken"]
        self.history.clear()
        self.history.update({name: list(values) for name, values in state["history"].items()})

    def names_in_state(self) -> set[str]:
        """What a state consists of."""
        return {"num_steps_taken", "history", "average", *self.players(), *self._optimizers()}

    def save(self, path: str | PathLike[str]) -> None:
        """Write :meth:`state_dict` to a file."""
        torch.save(self.state_dict(), path)

    def load(self, path: str | PathLike[str]) -> Self:
        """Read a state that :meth:`save` wrote, onto this inference's device, and return the inference itself."""
        self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return self

    def players(self) -> dict[str, Player]:
        """The players by name; those beside the discriminator are moved by the generator's optimizer."""
        return {"model": self.model, "discriminator": self.discriminator}

    def generator_parameters(self) -> dict[str, Tensor]:
        """The parameters by name that the generator's optimizer moves, of those that have been met."""
        return {name: leaf for name, leaf in self._met_parameters().items() if name in self.selection}

    def _met_parameters(self) -> dict[str, Tensor]:
        """The parameters of the generator's side that have been met and could be moved."""
        met = (player.parameters for player in self.players().values() if player is not self.discriminator)
        return {name: leaf for name, leaf in reduce(or_, met).items() if leaf.requires_grad}

    def generator_loss(self, samples: Samples) -> Tensor:
        """What the generator's side minimizes on two samples, a 0-dimensional tensor."""
        reads_real = self.loss.generator_reads_real or self.guide_moves_real
        with torch.set_grad_enabled(self.guide_moves_real and torch.is_grad_enabled()):
            real_logits = self.discriminator(samples.real) if reads_real else None
        terms = self.loss.generator(real_logits, self.discriminator(samples.fake))
        if self.guide_moves_real and real_logits is not None:
            terms = (*terms, *self.loss.guide(real_logits))
        return _total(terms) if samples.log_factor is None else _total(terms) - samples.log_factor

    def _update_discriminator(self, batch: Batch) -> StepRecord:
        """Update the discriminator once; return its loss, and its mean probability on real and on fake rows."""
        with torch.no_grad():
            samples = self.draw(batch)
        samples.check_alike()
        judgement = self._judge(samples)
        loss = _total(self.loss.discriminator(judgement.real_logits, judgement.fake_logits))
        parameters = _parameters(loss, judgement)
        if not self.optim_d.knows(parameters):
            self.discriminator.meet(parameters)
            self._meet()
        penalty = reduce(add, (given(judgement).mean() for given in self.penalties)) if self.penalties else None
        self.optim_d.update(loss if penalty is None else loss + penalty, parameters)
        for given in self.penalties:
            if isinstance(given, Penalty):
                given.after_update(parameters)
        real, fake = self._probabilities(judgement)
        return StepRecord(None, loss.detach(), None if penalty is None else penalty.detach(), real, fake)

    def _judge(self, samples: Samples) -> Judgement:
        """Have both samples judged; no graph of the model goes further, even of one under `torch.enable_grad()`."""
        differentiates = any(getattr(given, "reads_gradients", True) for given in self.penalties)
        real, fake = (
            {
                site: rows.detach().requires_grad_(differentiates and rows.is_floating_point())
                for site, rows in sample.items()
            }
            for sample in (samples.real, samples.fake)
        )
        return Judgement(self.discriminator, real, fake, self.discriminator(real), self.discriminator(fake))

    def _probabilities(self, judgement: Judgement) -> tuple[Tensor | None, Tensor | None]:
        """The mean probability of being real of the real and of the fake rows, where the loss implies one."""
        if not self.loss.implies_log_ratio:
            return None, None
        with torch.no_grad():
            real, fake = (self.loss.log_ratio(logits) for logits in (judgement.real_logits, judgement.fake_logits))
            constant = _log_mean_exp(fake) if self.loss.leaves_constant_open else 0.0
            return (real - constant).sigmoid().mean(), (fake - constant).sigmoid().mean()

    def _update_generator(self, batch: Batch) -> Tensor:
        """Update the generator's side once; return its loss."""
        samples = self.draw_for_generator(batch)
        loss = self.generator_loss(samples)
        parameters = {name: leaf for name, leaf in samples.parameters.items() if name in self.selection}
        if not self.optim.knows(parameters.values()):
            self._meet()
        self.optim.update(loss, list(parameters.values()))
        if self.average is not None:
            self.average.update(parameters)
        return loss.detach()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """A context for the first look: random states and buffers stay; if it fails, nothing is built or registered."""
        functions = [player.function for player in self.players().values()]
        with (
            dropped_parameters(),
            kept_unbuilt(*functions),
            kept_buffers(),
            kept_random_state(self.device),
            torch.enable_grad(),
        ):
            yield

    def _get_ready(self, batch: Batch) -> None:
        """Before the first step: try everything on one minibatch, refuse what can not work, make the optimizers."""
        if self._is_ready:
            return
        with self.looking():
            samples = self.draw(batch)
            samples.check()
            self.draw_for_generator(batch).check_parameters()
            for given in self.penalties:
                if isinstance(given, Penalty):
                    given.check(samples.real)
            real, fake = ({site: rows.detach() for site, rows in sample.items()} for sample in samples[:2])
            self.discriminator.set_up(self.typical_rows(real, fake), self.supports())
            self.discriminator(real)
            check_logits(self.discriminator(fake))
            self.selection.check(self._met_parameters())
            self._meet()
        for player in self.players().values():
            player.settle()
        self._is_ready = True

    def typical_rows(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows by which a discriminator that builds itself may standardize the sites; by default the real ones."""
        return real

    def as_rows(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a run of the model draws, with a row of each site for each row of data; by default it is so already."""
        return values

    def supports(self) -> dict[str, Constraint]:
        """The supports of the compared sites in the model, which has been run before."""
        return {name: self.model.found[name].support for name in self.model.sites or ()}

    def _meet(self) -> None:
        """Give each player's optimizer the parameters that it does not know yet."""
        decaying: set[Tensor] = set()
        for player in self.players().values():
            if player is not self.discriminator:
                _check_apart(player.parameters, self.discriminator.parameters)
                decaying |= player.decaying()
        self.optim.meet(self.generator_parameters(), decaying)
        self.optim_d.meet(self.discriminator.parameters, self.discriminator.decaying())

    def _optimizers(self) -> dict[str, PlayerOptimizer]:
        return {"optim": self.optim, "optim_d": self.optim_d}

    def model_rows(self, num_rows: int) -> dict[str, Tensor]:
        """Fresh fake rows of the compared sites, without gradients."""
        drawn = self.sample(num_rows)
        return drawn if isinstance(drawn, dict) else dict.fromkeys(self.model.sites or (), drawn)

    def _log_mean_ratio(self) -> Tensor:
        """The log of the ratio's mean over rows of the model, which is 0 for a ratio of densities."""
        with kept_random_state(self.device):
            pyro.set_rng_seed(0)  # the same rows at each call
            rows = self.model_rows(NUM_ROWS_FOR_CONSTANT)
        return _log_mean_exp(self.loss.log_ratio(self.discriminator(rows)))

    def _batch(self, batch: tuple[Any, ...]) -> Batch:
        return as_batch(batch[0] if len(batch) == 1 else batch, self.device)


def _total(losses: tuple[Tensor, ...]) -> Tensor:
    """The sum of the means of per-row losses."""
    return reduce(add, (rows.mean() for rows in losses))


def _log_mean_exp(values: Tensor) -> Tensor:
    return values.logsumexp(0) - math.log(len(values))


def _parameters(loss: Tensor, judgement: Judgement) -> list[Tensor]:
    """The discriminator's parameters: what its loss depends on, without the rows that penalties differentiate by."""
    rows = {id(value) for sample in (judgement.real, judgement.fake) for value in sample.values()}
    return [leaf for leaf in leaves(loss) if id(leaf) not in rows]


def _check_bounded(loss: Loss, penalty: object) -> None:
    """Refuse a critic that nothing keeps from growing without bound.

    Raises:
        ValueError: It is one.
    """
    if isinstance(loss, Wasserstein) and penalty is None:
        raise ValueError(
            "the Wasserstein loss needs a critic of bounded slope, but penalty is None. Pass "
            "penalty=GradientPenalty() or WeightClipping(), as WGANInference does; for a critic with spectral "
            "normalization pass penalty=()."
        )


def _check_apart(generator: dict[str, Tensor], discriminator: dict[str, Tensor]) -> None:
    """Refuse a parameter that both players would train.

    Raises:
        ValueError: There is one; the message has its names.
    """
    names = {id(parameter): name for name, parameter in generator.items()}
    for name, parameter in discriminator.items():
        if id(parameter) in names:
            raise ValueError(
                f"parameter {names[id(parameter)]!r} of the model is also the discriminator's ({name!r}). "
                "Each player trains its own: give the discriminator a network of its own, or detach what it borrows."
            )
