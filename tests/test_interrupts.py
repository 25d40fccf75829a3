"""Interrupts, callbacks that fail, and streams that break: nothing is lost, and nothing left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pyro
import pytest
import torch
from models import location_model, scalar_discriminator
from torch.nn.modules import module as torch_module

from pyro_gan import GANInference
from pyro_gan.callbacks import Callback, ProgressBar, ProgressLines, SaveSamples, WriteCSV
from pyro_gan.training.interrupts import held_back

DATA = 4 + 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(0))


def make():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return GANInference(location_model, scalar_discriminator(4))


class Signal(Callback):
    """Sends a signal to this process after so many steps, and notes that the run ended."""

    def __init__(self, number, at=3, times=1):
        self.number, self.at, self.times, self.has_ended = number, at, times, False

    def on_step(self, inference):
        if inference.clock.done == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def on_end(self, inference):
        self.has_ended = True


def assert_nothing_is_left(handlers):
    assert torch.is_grad_enabled()
    assert not torch_module._global_forward_pre_hooks
    assert not pyro.poutine.runtime._PYRO_STACK
    assert pyro.distributions.Normal(0.0, 1.0)._validate_args
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_run_ends_after_the_step_in_hand_and_goes_on_later(number, error, tmp_path):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    interrupt, trained = Signal(number), make()
    with pytest.raises(error) as caught:
        trained.run(DATA, num_steps=9, progress=False, callbacks=[interrupt], checkpoint=tmp_path)
    assert getattr(caught.value, "code", 143) == 143
    assert interrupt.has_ended and trained.history["step"] == [1, 2, 3] and trained.num_steps_taken == 3
    assert_nothing_is_left(handlers)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003.state"]
    trained.run(DATA, num_steps=9, progress=False, checkpoint=tmp_path)  # the same cell again
    state = trained.state_dict()
    expected = make().run(DATA, num_steps=9, progress=False).state_dict()
    assert torch.equal(state["model"]["parameters"]["loc"], expected["model"]["parameters"]["loc"])
    assert state["history"] == expected["history"]


def test_a_second_interrupt_ends_a_step_that_does_not_end():
    def data():
        yield DATA
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        make().run(data(), num_steps=9, progress=False)
    assert time.monotonic() - start < 30


def test_handlers_of_the_users_own_are_called_when_the_run_has_ended():
    calls = []
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        trained = make().run(DATA, num_steps=9, progress=False, callbacks=[Signal(signal.SIGTERM)])
        assert calls == [signal.SIGTERM] and trained.num_steps_taken == 3
    finally:
        signal.signal(signal.SIGTERM, earlier)


def test_signals_that_are_ignored_stay_ignored():
    earlier = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert make().run(DATA, num_steps=5, progress=False, callbacks=[Signal(signal.SIGTERM)]).num_steps_taken == 5
    finally:
        signal.signal(signal.SIGTERM, earlier)


def test_interrupts_at_any_moment_leave_nothing_behind():
    """A timer interrupts a run at 100 moments, spread over its steps and whatever is between them."""
    trained = make()
    trained.run(DATA, num_steps=2, progress=False)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number in range(100):
        timer = threading.Timer(0.002 + 0.0003 * number, os.kill, (os.getpid(), signal.SIGINT))
        with contextlib.suppress(KeyboardInterrupt):
            timer.start()
            trained.run(DATA, num_steps=10_000, progress=False)
        timer.join()
        assert_nothing_is_left(handlers)
        assert trained.history["step"] == list(range(1, len(trained.history["step"]) + 1))
        assert len({len(values) for values in trained.history.values()}) == 1
        assert not trained.recorder.unread and not trained.clock.is_running


def test_a_thread_that_gets_no_signals_runs_all_the_same():
    trained, errors = make(), []

    def run():
        try:
            trained.run(DATA, num_steps=3, progress=False)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not errors and trained.num_steps_taken == 3
    with held_back() as interrupts:
        assert interrupts.caught is None


@pytest.mark.parametrize(("patience", "expected"), [(60.0, ["within", "after"]), (0.0, ["second", "within", "after"])])
def test_further_signals_are_ignored_for_as_long_as_many_processes_need_to_agree(patience, expected):
    told, before = [], signal.getsignal(signal.SIGTERM)
    names = iter(["second", "after"] if patience == 0.0 else ["after"])
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(next(names)))
    try:
        with held_back(patience):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            told.append("within")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == expected


SCRIPT = """
import contextlib, signal, sys, torch, pyro
with contextlib.suppress(ImportError):
    import tabulate  # else torch imports it at exit, and named tuples made then have Python forget of the interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
sys.path.insert(0, {tests!r})
from models import location_model, scalar_discriminator
from pyro_gan import GANInference
from pyro_gan.callbacks import Callback
class Ready(Callback):
    def on_step(self, inference):
        if inference.clock.done == 5:
            print("ready", flush=True)
GANInference(location_model, scalar_discriminator(4)).run(
    torch.randn(100), num_steps=10**9, progress=False, callbacks=[Ready()], checkpoint={folder!r})
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_process_that_is_asked_to_end_says_so_by_its_exit_code(number, code, tmp_path):
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", script], **pipes)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == code, messages
    assert len(list(tmp_path.glob("step-*.state"))) == 1


def test_a_request_to_end_is_not_lost_to_an_error():
    with pytest.raises(SystemExit) as caught:
        make().run(DATA, num_steps=9, progress=False, callbacks=[Signal(signal.SIGTERM), Fails("on_end", "broken")])
    assert caught.value.code == 143 and "broken" in str(caught.value.__context__)


# Callbacks that fail


class Fails(Callback):
    """Raises in one of its hooks."""

    def __init__(self, hook, text):
        self.hook, self.text = hook, text

    def on_start(self, inference, num_steps):
        self._fail("on_start")

    def on_step(self, inference):
        self._fail("on_step")

    def on_read(self, inference):
        self._fail("on_read")

    def on_end(self, inference):
        self._fail("on_end")

    def _fail(self, hook):
        if hook == self.hook:
            raise RuntimeError(self.text)


@pytest.mark.parametrize("hook", ["on_start", "on_step", "on_read", "on_end"])
def test_the_first_error_is_raised_and_the_others_are_noted_with_it(hook):
    last = Signal(signal.SIGTERM, at=-1)
    with pytest.raises(RuntimeError, match="first") as caught:
        make().run(DATA, num_steps=3, progress=False, callbacks=[Fails("on_end", "then"), last, Fails(hook, "first")])
    if hook == "on_end":  # the first that is raised
        assert "then" in str(caught.value) or caught.value.__notes__
    else:
        assert caught.value.__notes__ == ["Then Fails.on_end raised RuntimeError: then"]
    assert last.has_ended


# Streams that break


class Broken:
    """A stream that fails from some call on."""

    def __init__(self, error, after=0, is_terminal=False):
        self.error, self.after, self.is_terminal, self.calls = error, after, is_terminal, 0

    def write(self, text):
        self.calls += 1
        if self.calls > self.after:
            raise self.error
        return len(text)

    def flush(self):
        if self.calls > self.after:
            raise self.error

    def isatty(self):
        return self.is_terminal


ERRORS = {
    "pipe": BrokenPipeError(32, "Broken pipe"),
    "disk": OSError(28, "No space left on device"),
    "closed": ValueError("I/O operation on closed file."),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_that_nobody_can_read_does_not_end_a_run(error, after, is_terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr", Broken(ERRORS[error], after, is_terminal))
    trained = make()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trained.run(DATA, num_steps=10, print_every=1)
    assert trained.num_steps_taken == 10
    kind = ProgressBar if is_terminal else ProgressLines
    is_told = not (is_terminal and error == "closed")  # tqdm itself falls silent on a closed stream
    expected = [f"{kind.__name__} is left out from here on, the run goes on"] * is_told
    assert [str(each.message).partition(":")[0] for each in told] == expected


def test_logs_and_pictures_that_can_not_be_written_do_not_end_a_run(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    (tmp_path / "file").write_text("")

    class Remove(Callback):
        def on_start(self, inference, num_steps):
            folder.rmdir()

    def draw(samples):
        import matplotlib.pyplot as plt

        return plt.subplots()[1]

    writers = [
        WriteCSV(folder / "history.csv"),
        SaveSamples(tmp_path / "file" / "in", every=2, num_samples=4, draw=draw),
    ]
    trained = make()
    with pytest.warns(RuntimeWarning) as told:
        trained.run(DATA, num_steps=6, progress=False, callbacks=[Remove(), *writers])
    assert trained.num_steps_taken == 6
    assert sorted(str(each.message).split()[0] for each in told) == ["SaveSamples", "WriteCSV"]


def test_what_a_user_draws_wrongly_is_an_error_all_the_same(tmp_path):
    def draw(samples):
        raise ValueError("samples have no colour")

    with pytest.raises(ValueError, match="samples have no colour"):
        make().run(DATA, num_steps=2, progress=False, callbacks=[SaveSamples(tmp_path, every=1, draw=draw)])
