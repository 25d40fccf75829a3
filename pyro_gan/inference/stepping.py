"""Steps of an inference: the look before the first, the steps, and the losses without one."""

import copy
from collections.abc import Callable, Iterator
from functools import partial, reduce
from itertools import islice, repeat
from operator import add
from typing import Any, Unpack, cast

import torch
from torch import Tensor

from pyro_gan.callbacks.failures import Drift
from pyro_gan.checks import listed, shown
from pyro_gan.inference.apart import Parts
from pyro_gan.inference.conditioned import Conditioned
from pyro_gan.inference.options import DiscriminatorChoice, Options, StepLosses
from pyro_gan.inference.state import description_of
from pyro_gan.inference.verdict import Report
from pyro_gan.players.batch import Batch, as_batch
from pyro_gan.players.calls import Arguments
from pyro_gan.players.exclusive import one_at_a_time
from pyro_gan.players.first_look import builds_itself_later, kept_buffers, kept_random_state, take_buffers
from pyro_gan.processes import found, quiet
from pyro_gan.training.clock import Clock
from pyro_gan.training.distributed import Together
from pyro_gan.training.divergence import MEND, Diverged
from pyro_gan.training.failing import one_for_all
from pyro_gan.training.look import MoreRows, drawn_for, first_rows, look, more_rows, samples_to_build_by
from pyro_gan.training.minibatches import Minibatches
from pyro_gan.training.objective import discriminator_loss
from pyro_gan.training.optimizers import OptimizerChoice, PlayerOptimizer
from pyro_gan.training.record import COLUMNS, Recorder, StepRecord
from pyro_gan.training.step import PlayerName, Step


class Stepping(Conditioned):
    """What takes steps, one by one; :class:`~pyro_gan.AdversarialInference` adds runs and questions."""

    def __init__(
        self,
        model: Callable[..., Any],
        discriminator: DiscriminatorChoice = None,
        optim: OptimizerChoice = None,
        optim_d: OptimizerChoice = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(model, discriminator, optim, optim_d, **options)
        self.num_steps_taken = 0
        self.num_updates = 0
        self.clock = Clock()
        self.history: dict[str, list[Any]] = {name: [] for name in ("step", *COLUMNS)}
        self.notes: dict[int, dict[str, float]] = {}
        self.description = description_of(self)
        self.never_apart: Callable[[float, int], Iterator[Batch]] | None = None
        """While a run looks at its data, gives rows that are never kept apart, as minibatches."""
        self.recorder = Recorder(self)
        self._step = Step(self)
        self.parts: Parts | None = None
        """The data of the last run in two parts, where it kept rows apart."""
        self.report: Report | None = None
        """What a check found when that run had come to its end."""
        self.drift: Drift | None = None
        """How parameters moved in the last run, where it was long enough."""
        self._is_ready = False
        self._loaded_state: dict[str, Any] | None = None
        """The state that has been loaded before the parameters are known."""
        self._blanks: dict[str, Any] = {}
        """Copies of networks that built themselves for a question, from before that."""

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
                Or an update would not be finite.
        """
        if player not in (None, "generator", "discriminator"):
            raise ValueError(f"player must be 'generator', 'discriminator' or None for both, but is {shown(player)}.")
        record = self.take_step(repeat(self._batch(batch)), player)
        if not self.clock.is_running:
            self.clock.step += 1  # a run's own steps follow without a gap
        return StepLosses(record.generator_loss, record.discriminator_loss)

    @one_at_a_time
    def take_step(self, batches: Iterator[Batch], player: PlayerName | None = None) -> StepRecord:
        """Take one step on a stream of minibatches, a fresh one for each update of the discriminator.

        Where several processes train together, all of them take it.
        """
        processes = found()
        if processes is None:
            self._step.together = None
        elif self._step.together is None or self._step.together.processes is not processes:
            self._step.together = Together(processes)
        with one_for_all(processes, lambda: f"at step {self.num_steps_taken + 1}"):
            return self._take_step(batches, player)

    def _take_step(self, batches: Iterator[Batch], player: PlayerName | None) -> StepRecord:
        if self.average is not None and self.average.is_applied:
            raise ValueError(
                "within averaged() the parameters have the values of their averages, which a step would train and "
                "the context's end throw away. Take steps outside of it."
            )
        k, g = self.discriminator_steps, self.generator_steps
        number = {"generator": g, "discriminator": k}.get(player or "", max(k, g))
        minibatches = list(islice(batches, number))
        if len(minibatches) < number:
            raise ValueError(
                f"the data ran out at step {self.num_steps_taken + 1}: an iterator can be read only once. Pass "
                "something that can be read again, such as a list or a DataLoader, or an endless generator."
            )
        together = self._step.together
        is_first = not self._is_ready or bool(self._blanks)
        if is_first:
            many = self._more_rows(batches, minibatches)
            if together is not None:
                many = together.many(many, minibatches[0])
            if isinstance(batches, Minibatches) and self._loaded_state is None:  # what is loaded has been fitted
                self.never_apart = batches.never_apart
            try:
                with quiet(None if together is None else together.processes):
                    self._get_ready_to_train(minibatches[0], many)
            finally:
                self.never_apart = None
        if together is not None:
            together.meet(self.players(), self.device)
        self._last_batch = minibatches[-1]
        self.meet_conditions(minibatches)
        if is_first and isinstance(batches, Minibatches):
            self.note_categories(batches.whole, is_over=False)
        for_discriminator = minibatches[:k] if player != "generator" else ()
        for_generator = minibatches[-g:] if player != "discriminator" else ()
        try:
            record = self._step.take(for_discriminator, for_generator)
        except Diverged:
            self.num_steps_taken += 1
            raise
        self.num_steps_taken += 1
        return record

    @one_at_a_time
    def evaluate_loss(self, *batch: Any) -> StepLosses:
        """The losses of both players on a minibatch, without changing anything.

        Args:
            batch: As in :meth:`step`.

        Returns:
            Both losses without penalties, detached 0-dimensional tensors in nats. New noise is drawn for each call, as
            in `SVI.evaluate_loss`.
        """
        values = self._batch(batch)
        self.get_ready_to_answer(values)
        with torch.no_grad(), kept_buffers():
            samples = self.draw(values)
            logits = [
                (part(select(samples.real)), part(select(samples.fake))) for part, select in self.discriminator.parts()
            ]
            of_discriminator = discriminator_loss(self.loss, self.discriminator, samples, logits, self.matching_aware)
            of_generator = reduce(add, map(self.generator_loss, self.samples_for_generator(values)))
            return StepLosses(of_generator, of_discriminator)

    @one_at_a_time
    def compared_rows(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By site, real rows of the last minibatch and the model's draws, where both are to become alike."""
        if self._last_batch is None or self.guide_moves_real:
            return {}
        with torch.no_grad(), kept_buffers(), kept_random_state(self.device):
            samples = self.draw(self._last_batch)
        return {site: (samples.real[site].detach(), samples.fake[site].detach()) for site in self.model.sites or ()}

    def tell_left_out(self, step: int, is_left_out: bool) -> None:
        """Take note of what a device found at a step: whether an update was left out.

        Raises:
            ValueError: One was, and that is the user's choice.
        """
        if not is_left_out:
            self._step.divergence.passes("device")
            return
        text = f"an update was not finite at step {step} and was left out. {MEND}"
        self._step.divergence.meet(self.on_divergence, "device", text)

    def last_batch(self) -> Batch | None:
        """The minibatch of the last step, or of the look before the first."""
        return self._last_batch

    def last_arguments(self) -> Arguments | None:
        """How the model was called at the last step, or at the look before the first."""
        return None if self._last_batch is None else self.model.calls.arguments(self._last_batch)

    def sample_arguments(self, num_samples: int, args: tuple[Any, ...]) -> Arguments:
        """How the model is called where rows are wanted, given a user's arguments.

        Args:
            num_samples: The number of rows.
            args: The arguments: all that the model takes, or its conditions.

        Raises:
            TypeError, ValueError: Arguments are missing, or a condition does not fit.
        """
        calls, last = self.model.calls, self.last_arguments()
        told = self.names_of_conditions()
        if args and last is not None and len(args) == len(told) < calls.number_required():
            rows = calls.sample_arguments((), last, num_samples, exactly=True)
            arguments = calls.replaced(rows, dict(zip(told, args, strict=True)))
        else:
            arguments = calls.sample_arguments(args, last, num_samples)
        if not args:
            return arguments
        return calls.replaced(arguments, self.fitting(calls.named_arguments(arguments), num_samples))

    def judged_names(self) -> tuple[str, ...]:
        """The names of the compared sites and of the conditions, in order, as far as they are known."""
        return (*(self.model.sites or ()), *self.names_of_conditions())

    def optimizers(self) -> dict[str, PlayerOptimizer]:
        """Both players' optimizers by the names of their arguments."""
        return {"optim": self.optim, "optim_d": self.optim_d}

    def get_ready(self, batch: Batch, many: MoreRows | None = None) -> None:
        """Before the first step, look at one minibatch; loaded values are in place then."""
        if not self._is_ready:
            look(self, self._step, batch, many)
            self._last_batch = batch
            self._is_ready = True
            self._loaded_state = None

    def _more_rows(self, batches: Iterator[Batch], given: list[Batch]) -> MoreRows | None:
        """What gives more rows to look at than a minibatch has.

        Of a stream these are minibatches to come: another process has others, and a run that goes on had them before.
        """
        if not isinstance(batches, Minibatches):
            return None
        is_first_look = self._step.together is None and self._loaded_state is None
        return partial(batches.many_from, given) if batches.are_at_hand or is_first_look else None

    def _get_ready_to_train(self, batch: Batch, many: MoreRows | None) -> None:
        """Before the first step, look at its minibatch, build what a question built, and let a copy have its values."""
        for player in self.players().values():
            player.takes_over = True
        self.get_ready(batch, many)
        if self._blanks:
            self._build_anew(batch, many)

    def get_ready_to_answer(self, batch: Batch) -> None:
        """Before a question, know both players. What they build for it is built anew for the first step."""
        if not self._is_ready and self._loaded_state is None:
            functions = {name: player.function for name, player in self.players().items()}
            self._blanks = copy.deepcopy({name: each for name, each in functions.items() if builds_itself_later(each)})
        self.get_ready(batch)

    def meet_after_load(self, rows: Any) -> None:
        """Where a state tells of conditions, look at rows that are a minibatch before the first question of them."""
        is_whole = "guide" not in self.players() and len(self.discriminator.parts()) == 1
        if not self._is_ready and self.known.conditions and is_whole:
            batch = as_batch(rows, self.device)
            if len(batch) > len(self.known.conditions):
                self.get_ready_to_answer(batch)

    def _build_anew(self, batch: Batch, many: MoreRows | None) -> None:
        """Have networks that built themselves for a question standardize by the first rows that train them."""
        blanks, self._blanks = self._blanks, {}
        more = more_rows(many)
        with self.looking():
            of_many = drawn_for(self, more)
            samples = samples_to_build_by(self._step, of_many, self.draw(batch))
            batch = batch if more is None or of_many is None else more
        # A look of its own, since buffers that a draw has met stay as they are.
        with self.looking(), self.discriminator.creating:
            for name, blank in sorted(blanks.items(), key=lambda each: each[0] != "guide"):  # others see what it sees
                built = cast(Any, self.players()[name].function)
                if name == "guide":
                    arguments = self.guide_arguments(batch)
                    blank.setup(*arguments.args, **arguments.kwargs)
                else:
                    blank.setup(dict(self.supports()), first_rows(self, samples))
                self.relate({name: blank}, samples)
                _check_built_alike(name, built, blank)
                take_buffers(built, blank)

    def check_built(self, method: str) -> None:
        """Refuse a question to a discriminator that has still to build itself.

        Args:
            method: What was called.

        Raises:
            ValueError: No step has been taken, and no state has been loaded.
        """
        if self._loaded_state is None and builds_itself_later(self.discriminator.function):
            raise ValueError(
                f"{method} was called before the first step, but the discriminator builds itself on the first "
                "minibatch that it is trained on. Call run or step first, or load a state."
            )

    def _batch(self, batch: tuple[Any, ...]) -> Batch:
        return as_batch(batch[0] if len(batch) == 1 else batch, self.device, is_own=True)


def _check_built_alike(name: str, built: Any, blank: Any) -> None:
    """Refuse rows to train on that look otherwise than those of a question by which a network was built.

    Raises:
        ValueError: They do, as labels of few rows that looked like numbers.
    """
    if hasattr(built, "built") and built.built() != blank.built():
        sites = [site for site, seen in blank.built().items() if seen != built.built().get(site)]
        raise ValueError(
            f"a question before the first step has built the {name} by rows that look otherwise than those to train "
            f"on: labels, images or corners of a simplex are others at {listed(sites)}. Make the inference anew, and "
            "ask after the first step."
        )
