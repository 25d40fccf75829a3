"""What every adversarial inference offers: a step, a run, and what can be asked, saved and loaded afterwards."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice, repeat
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

import torch
from torch import Tensor

from pyro_gan.callbacks import Callback, progress_callbacks
from pyro_gan.checks import positive_integer
from pyro_gan.inference.algorithm import Algorithm
from pyro_gan.inference.options import Options, StepLosses
from pyro_gan.inference.questions import draw_rows, export, log_ratio
from pyro_gan.inference.state import state_of, take_over
from pyro_gan.players.batch import Batch, as_batch
from pyro_gan.players.calls import Arguments
from pyro_gan.players.first_look import kept_buffers
from pyro_gan.training.compiled import use_compiled
from pyro_gan.training.look import look
from pyro_gan.training.loop import train
from pyro_gan.training.minibatches import minibatches
from pyro_gan.training.optimizers import OptimizerChoice, PlayerOptimizer
from pyro_gan.training.record import COLUMNS, StepRecord
from pyro_gan.training.step import Step, total

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import DataTree

PlayerName = Literal["generator", "discriminator"]


class AdversarialInference(Algorithm):
    """The base of all inference classes; see :class:`~pyro_gan.GANInference` for the arguments."""

    def __init__(
        self,
        model: Callable[..., Any],
        discriminator: Callable[..., Tensor] | None = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(model, discriminator, optim, optim_d, **options)
        self.num_steps_taken = 0
        self.num_updates = 0
        self.history: dict[str, list[Any]] = {name: [] for name in ("step", *COLUMNS)}
        self.notes: dict[int, dict[str, float]] = {}
        self._step = Step(self)
        self._last_batch: Batch | None = None
        self._is_ready = False

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
        compile: bool = False,
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
            compile: Whether this run and the steps after it use compiled gradients, as of :meth:`compile`.

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
        callbacks = [*progress_callbacks(progress, print_every, compile), *given]
        batches = minibatches(data, batch_size, self.device, transform)
        self.compile(compile)
        train(self, batches, num_steps, [*self.schedule(), *callbacks])
        return self

    def compile(self, compile: bool = True) -> Self:
        """Have the steps from here on use compiled gradients, or eager ones again.

        The first step takes the time to compile, some ten seconds for each player, of which torch keeps a part between
        processes; later ones take a fraction of the eager time. Compiled gradients are compared with the eager ones
        first, and again at ever rarer later steps. Where they can not be right, the eager ones are used, and a warning
        says why. One seed gives the same run as without, up to rounding.

        Args:
            compile: Whether to.

        Returns:
            The inference itself.

        Raises:
            ValueError: `share_draws=True`, for which compiled gradients have no use.
        """
        if compile and self.share_draws:
            raise ValueError("compile=True and share_draws=True each save a run of the model. Leave one of them out.")
        if compile:
            use_compiled(self._step)
        else:
            self._step.take_eagerly()
        return self

    def seconds_to_compile(self) -> float:
        """How long compiling has taken, 0 where nothing is compiled."""
        return self._step.seconds_to_compile()

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
        self._last_batch = minibatches[-1]
        record = self._step.take(
            minibatches[:k] if player != "generator" else (), minibatches[-g:] if player != "discriminator" else ()
        )
        self.num_steps_taken += 1
        return record

    def note(self, **values: float) -> None:
        """Note numbers at the present step of a run, such as a criticism's; they enter the history with the step.

        Args:
            values: Numbers by name; each name becomes a list in the history, with NaN at the steps without a note.

        Raises:
            ValueError: A name belongs to the history's own.
        """
        taken = {"step", *COLUMNS} & set(values)
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
            discriminator_loss = total(self.loss.discriminator(real_logits, fake_logits))
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
        arguments = self.model.calls.sample_arguments(args, self.last_arguments(), num_samples)
        if averaged:
            if not self.model.is_known:  # its parameters have not been met
                self.model.look_at(arguments)
            with self.averaged():
                return self.sample(num_samples, *args)
        drawn = draw_rows(self, arguments, num_samples)
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
        return log_ratio(self, x)

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
        return export(self, values, num_draws)

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
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state, so that training and sampling go on from it.

        Before the first step the parameters are not known yet; they then take their values as the model and the
        discriminator are first run.

        Raises:
            ValueError: This is no state, or one of another model or discriminator: parameters differ in name or shape.
        """
        take_over(self, state)

    def names_in_state(self) -> set[str]:
        """What a state consists of."""
        return {"num_steps_taken", "num_updates", "history", "average", *self.players(), *self.optimizers()}

    def save(self, path: str | PathLike[str]) -> None:
        """Write :meth:`state_dict` to a file."""
        torch.save(self.state_dict(), path)

    def load(self, path: str | PathLike[str]) -> Self:
        """Read a state that :meth:`save` wrote, onto this inference's device, and return the inference itself."""
        self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return self

    def last_arguments(self) -> Arguments | None:
        """How the model was called at the last step, or at the look before the first."""
        return None if self._last_batch is None else self.model.calls.arguments(self._last_batch)

    def model_rows(self, num_rows: int) -> dict[str, Tensor]:
        """Fresh fake rows of the compared sites, without gradients."""
        drawn = self.sample(num_rows)
        return drawn if isinstance(drawn, dict) else dict.fromkeys(self.model.sites or (), drawn)

    def _get_ready(self, batch: Batch) -> None:
        """Before the first step, look at one minibatch."""
        if not self._is_ready:
            look(self, self._step, batch)
            self._last_batch = batch
            self._is_ready = True

    def optimizers(self) -> dict[str, PlayerOptimizer]:
        """Both players' optimizers by the names of their arguments."""
        return {"optim": self.optim, "optim_d": self.optim_d}

    def _batch(self, batch: tuple[Any, ...]) -> Batch:
        return as_batch(batch[0] if len(batch) == 1 else batch, self.device)
