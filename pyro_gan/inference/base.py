"""What every adversarial inference offers: a step, a run, and what can be asked, saved and loaded afterwards."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from pyro_gan.callbacks import Callback, WarnOfFailures, progress_callbacks
from pyro_gan.callbacks.base import as_callbacks
from pyro_gan.checks import listed, positive_integer
from pyro_gan.inference.apart import kept_apart
from pyro_gan.inference.checking import check, report_of_run
from pyro_gan.inference.questions import draw_rows, export, log_ratio
from pyro_gan.inference.state import NAMES, copy_of, state_of, take_over
from pyro_gan.inference.stepping import Stepping
from pyro_gan.inference.verdict import Report
from pyro_gan.players.batch import resized_batch
from pyro_gan.players.exclusive import one_at_a_time
from pyro_gan.processes import found
from pyro_gan.training.checkpoint import Folder, read_file, write_file
from pyro_gan.training.compiled import use_compiled
from pyro_gan.training.divergence import OnDivergence, check_on_divergence
from pyro_gan.training.failing import one_for_all
from pyro_gan.training.invalid import Invalid
from pyro_gan.training.loop import train
from pyro_gan.training.minibatches import minibatches
from pyro_gan.training.record import note, noted
from pyro_gan.training.resuming import Keeper, Resume, content_of
from pyro_gan.training.samples import Samples

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import DataTree


class AdversarialInference(Stepping):
    """The base of all inference classes; see :class:`~pyro_gan.GANInference` for the arguments."""

    def run(
        self,
        data: Any,
        *,
        held_out: float | None = None,
        num_steps: int = 1000,
        batch_size: int = 128,
        transform: Callable[..., Any] | None = None,
        invalid: Invalid = "raise",
        progress: bool = True,
        print_every: int | None = None,
        callbacks: Iterable[Callback] = (),
        compile: bool = False,
        on_divergence: OnDivergence | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 1000,
        keep: int = 3,
        resume: Resume = "auto",
    ) -> Self:
        """Train on data; with the other processes, where torchrun or torch.distributed has started several.

        Args:
            data: The observations: a tensor or array with shape `(num_rows, *event_shape)`, a tuple of such or a
                mapping of them by name, a `Dataset`, a `DataLoader`, or any iterable of minibatches. Arrays are placed
                on the device once; rows are then drawn epoch by epoch without replacement, in full minibatches.
            held_out: The part of the rows of arrays, such as 0.1, or their number, that the run keeps apart; at its end
                :meth:`check` is asked, and its answer, `inference.report`, printed where progress is shown.
            num_steps: The number of steps. Each updates the discriminator `discriminator_steps` times and then the
                generator `generator_steps` times, and takes as many minibatches as the greater of both.
            batch_size: The rows of a minibatch, at most all there are.
            transform: Applied to each minibatch on the device, such as `lambda x: x / 255`.
            invalid: `"exclude"` to leave out rows of arrays that hold NaN or infinity, as of failed simulations, and to
                tell how many there are. The answer is then conditional on success. By default they are refused.
            progress: Whether to show progress: a bar in a terminal or a notebook, else plain lines.
            print_every: The steps between plain lines, where there is no bar; by default a tenth of the run.
            callbacks: What else to do during the run, as :class:`~pyro_gan.callbacks.Callback` objects.
            compile: Whether this run and the steps after it use compiled gradients, as of :meth:`compile`.
            on_divergence: As the constructor's, `"raise"` or `"skip"`, from here on.
            checkpoint: A folder for checkpoints. A run that was cut off goes on from the newest where the same script
                calls it again, to the last bit as if it had not been.
            checkpoint_every: The steps between checkpoints; one is also written at the end, and at an interrupt.
            keep: The number of checkpoints to keep.
            resume: `"auto"` to go on from the newest checkpoint of the folder; `"never"` to begin at the beginning.

        Returns:
            The inference itself.

        Raises:
            TypeError, ValueError: An argument or the data do not fit, or an update is not finite; see the message.
            KeyboardInterrupt, SystemExit: The run was interrupted, or told to end; a second interrupt does so at once.
        """
        num_steps = positive_integer("num_steps", num_steps)
        with one_for_all(found(), lambda: f"at step {self.num_steps_taken}") as ranks:
            parts = None if held_out is None else kept_apart(data, held_out, self.device, transform, invalid)
            batches = minibatches(parts.train if parts else data, batch_size, self.device, transform, invalid, ranks)
            schedule = self.schedule(batches)
            all_callbacks = [*schedule, *progress_callbacks(progress, print_every, compile), *as_callbacks(callbacks)]
            every = positive_integer("checkpoint_every", checkpoint_every)
            folder = None if checkpoint is None else Folder(checkpoint, keep)
            keeper = None if folder is None else Keeper(self, batches, all_callbacks, folder, every, resume)
            self.on_divergence = check_on_divergence(self.on_divergence if on_divergence is None else on_divergence)
            self.compile(compile)
            self.parts, self.report, self.drift = parts, None, None
            is_taken = train(self, batches, num_steps, all_callbacks, keeper)
            self.note_categories(batches.whole)
        self.drift = next((each.drift for each in schedule if isinstance(each, WarnOfFailures)), None)
        if parts is not None and is_taken:
            self.report = report_of_run(self, progress)
        return self

    @one_at_a_time
    def check(self, held_out: Any = None, *, train: Any = None, observation: Any = None) -> Report:
        """Did it work: a verdict in words, with the numbers behind it. Nothing of the inference changes.

        What a model with parameters draws is compared with held-out rows: the spread of each feature, copies among
        draws, what part of the data they cover, copies of training rows, each feature's distribution, and what a new
        classifier can tell apart. A guide is judged on simulations of the model: coverage and ranks, joint regions
        (TARP), and a local classifier two-sample test. Of a model without parameters, held-out rows are observations,
        which it must be able to make. And parameters must not be on their way still, nor one player left behind.
        :mod:`pyro_gan.criticism.findings` has the limits; what is beyond them must also be more than chance.

        Args:
            held_out: Rows that it was not trained on, as in :meth:`step`, at least 20; of a model without parameters
                also one. By default those that :meth:`run` kept apart.
            train: Rows that it was trained on, to find copies of; by default those of that run.
            observation: Rows that the model must be able to make; with a guide also a single one.

        Returns:
            The report. `print(report)` shows the verdict and a table; :class:`~pyro_gan.inference.verdict.Report` has
            `passed`, `problems`, `table` and `plot()`.

        Raises:
            TypeError, ValueError: There are no held-out rows, too few, or they do not fit; see the message.
        """
        return check(self, held_out, train, observation)

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

    def note(self, **values: float) -> None:
        """Note numbers at the present step of a run, such as a criticism's; they enter the history with the step.

        Args:
            values: Numbers by name; each name becomes a list in the history, with NaN at the steps without a note.

        Raises:
            ValueError: A name belongs to the history's own, or there is no step of a run.
        """
        note(self, {name: float(value) for name, value in values.items()})

    @one_at_a_time
    def sample(self, num_samples: int, *args: Any, averaged: bool = False) -> Tensor | dict[str, Tensor]:
        """Draw the compared sites from the model as it stands.

        Modules are used in the mode they are in, and keep their batch statistics: call `.eval()` on them beforehand
        where that matters.

        Args:
            num_samples: The number of rows.
            args: The model's arguments, or conditions alone, a row each or one for all; by default the last step's.
            averaged: Whether to draw with the moving averages of the parameters, which `ema_decay` keeps.

        Returns:
            The compared site's rows, with shape `(num_samples, *event_shape)`; where several sites are compared, a
            dictionary of such by site.

        Raises:
            TypeError: `num_samples` is no integer, or the model's arguments are missing.
            ValueError: `num_samples` is not positive, the model draws no rows, no averages are kept, or a condition has
                another length or shape than asked for, or a category that the data have not.
        """
        num_samples = positive_integer("num_samples", num_samples)
        arguments = self.sample_arguments(num_samples, args)
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
        if cleared := self.model.cleared():
            raise ValueError(
                f"the averages are of parameters that Pyro's store no longer has ({listed(cleared)}), as after "
                "pyro.clear_param_store(). Take a step first, which begins new averages."
            )
        with self.average.applied(self.generator_parameters()):
            yield

    @one_at_a_time
    def log_ratio(self, x: Any) -> Tensor:
        r"""The discriminator's estimate of :math:`\log p_\text{data}(x) - \log p_\text{model}(x)`.

        Args:
            x: Rows of the compared site, with shape :math:`(N, *)`; where several are compared, a mapping by site. With
                conditions a tuple (x, c), or a mapping. Of stages a mapping with the rows of one.

        Returns:
            The estimate for each row in nats, with shape :math:`(N,)`. Where the loss leaves a constant open, it is
            such that the ratio's mean over 10,000 rows of the model is 1; they are drawn with a seed of their own.

        Raises:
            TypeError: The loss leaves a constant open, and no step has been taken that tells how to call the model.
            ValueError: The loss implies no ratio, or a condition has a category that training has not met.

        References:
            Goodfellow et al. (2014), proposition 1: the best discriminator's logit is this ratio.
        """
        self.check_built("log_ratio")
        return log_ratio(self, x)

    @one_at_a_time
    def to_inference_data(self, *batch: Any, num_draws: int = 100) -> "InferenceData | DataTree":
        """Export to ArviZ: data, draws of the model as it stands, and the training history.

        Args:
            batch: The data, as in :meth:`step`; `num_draws` data sets of as many rows are drawn and kept in memory.
            num_draws: The number of replicated data sets.

        Returns:
            ArviZ's container, with the groups of :mod:`pyro_gan.export`. Noise and other latent sites are in `prior`,
            the compared sites in `posterior_predictive`, `observed_data`, and `training_history`. With a guide, its
            draws are in `posterior`, what the model makes of them in `posterior_predictive`, and what it makes of the
            prior in `prior_predictive`.

        Raises:
            ImportError: ArviZ is not installed.
            TypeError, ValueError: As in :meth:`step`, or `num_draws` is no positive integer.
        """
        num_draws = positive_integer("num_draws", num_draws)
        values = self._batch(batch)
        self.get_ready_to_answer(values)
        return export(self, values, num_draws)

    def state_dict(self) -> dict[str, Any]:
        """The state of both players, their optimizers and averages, the clock and the history.

        Returns:
            A dictionary of tensors, numbers, strings, lists and dictionaries, with a description of what it is a state
            of: the class, the loss and the penalties.

        Raises:
            ValueError: No step has been taken, so there is no state yet.
        """
        if self._loaded_state is not None:
            return copy_of(self._loaded_state)
        if not self._is_ready or self._blanks:
            raise ValueError("there is no state before the first step. Call run or step first.")
        self.recorder.read()
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state, so that training and sampling go on from it: all of it or, where it does not fit, nothing.

        Before the first step the parameters are not known yet; they then take their values as the model and the
        discriminator are first run.

        Raises:
            ValueError: This is no state, or one of another inference: its class, loss, penalties or optimizers are
                others, or parameters differ in name or shape. Or a run is under way.
        """
        self.clock.check_idle("load_state_dict")
        take_over(self, state)
        self._blanks = {}
        self._loaded_state = None if self._is_ready else copy_of(state)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or what is pickled, goes on from here: it meets its parameters anew and gives them their values."""
        loaded = self.state_dict() if self._is_ready and not self._blanks else self._loaded_state
        return {**vars(self), "_is_ready": False, "_loaded_state": loaded}

    def names_in_state(self) -> set[str]:
        """What a state consists of."""
        return {*NAMES, *self.players(), *self.optimizers()}

    def save(self, path: str | PathLike[str]) -> None:
        """Write :meth:`state_dict` to a file, which is replaced whole or not at all, with a checksum.

        Raises:
            ValueError: No step has been taken.
        """
        write_file(path, content_of(self))

    def load(self, path: str | PathLike[str]) -> Self:
        """Read a state that :meth:`save` wrote, or a checkpoint of a run, and return the inference itself.

        Random states stay as they are; a run that goes on from a checkpoint sets them.

        Raises:
            ValueError: It is another file, or damaged; or as of :meth:`load_state_dict`. Nothing has changed then.
        """
        self.load_state_dict(read_file(path).get("state", {}))
        self.clock.folders.add(str(Path(path).resolve().parent))  # in which a run may go on
        return self

    def noted(self) -> dict[str, float]:
        """The numbers that were noted at the present step, by name."""
        return noted(self)

    def model_rows(self, num_rows: int) -> dict[str, Tensor]:
        """Fresh fake rows of what the discriminator is called with, without gradients."""
        drawn, batch = self.sample(num_rows), self.last_batch()
        rows = drawn if isinstance(drawn, dict) else dict.fromkeys(self.model.sites or (), drawn)
        return rows if batch is None else self.with_given(Samples(rows, {}, {}), resized_batch(batch, num_rows)).real
