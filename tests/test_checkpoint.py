"""States in files: whole or not at all, exact, and refused where they do not fit."""

import copy
import os
import pickle
import random
import signal
import time
from pathlib import Path

import numpy as np
import pyro
import pytest
import stored
import torch
from killed import killed, same
from latent_models import linear_model, slope_guide
from models import location_model, network_model, networks, scalar_discriminator
from torch.utils.data import DataLoader, TensorDataset

from pyro_gan import BiGANInference, GANInference, ImplicitKLqp, WGANInference
from pyro_gan.callbacks import Callback, Evaluate, FinalMean, KeepBest
from pyro_gan.losses import NonSaturating
from pyro_gan.penalties import R1, Penalty
from pyro_gan.training.checkpoint import FORMAT, read_file, write_file
from pyro_gan.training.minibatches import Gathered
from pyro_gan.training.resuming import Keeper

pytestmark = pytest.mark.filterwarnings("ignore:.*in this discriminator a row's logit depends:RuntimeWarning")
ROWS = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))


def make(seed=0, depth=2, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    generator, discriminator = networks(batch_norm=True)
    if depth == 3:
        generator.append(torch.nn.Linear(3, 3))
    return GANInference(network_model(generator, 2), discriminator, ema_decay=0.9, **options)


class Cut(Callback):
    """Cuts a run off after so many steps of it."""

    def __init__(self, at):
        self.at = at

    def on_step(self, inference):
        if inference.clock.done == self.at:
            raise KeyboardInterrupt


def loader(seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(ROWS), batch_size=16, shuffle=True, drop_last=True, generator=generator)


def gap(samples, rows):
    return (samples.mean(0) - rows.mean(0)).abs().mean()


DATA = {
    "array": lambda: ROWS,
    "whole array": lambda: ROWS[:16],
    "data set": lambda: TensorDataset(ROWS),
    "loader": loader,
    "loader with a generator": lambda: loader(3),
    "list": lambda: list(ROWS.split(20)),
    "generator": lambda: (torch.randn(16, 3) for _ in range(1000)),
}


@pytest.mark.parametrize(("kind", "compile"), [*((kind, False) for kind in DATA), ("array", True)])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(kind, compile, tmp_path, request):
    if compile:
        request.getfixturevalue("graphs_as_traced")

    def script(cut_at=None, **options):
        """What a user's script does, from the start; a process that was killed begins it anew."""
        inference = make()
        watch = [Evaluate(gap, ROWS, every=3, num_samples=9), KeepBest("gap", smaller_is_better=True)]
        for callbacks in ([], watch):
            cut = [Cut(cut_at[1])] if cut_at is not None and cut_at[0] == bool(callbacks) else []
            inference.run(
                DATA[kind](), num_steps=20, batch_size=16, progress=False, compile=compile,
                callbacks=[*callbacks, *cut], **options,
            )  # fmt: skip
        return inference.state_dict(), torch.get_rng_state()

    expected = script()
    options = {"checkpoint": tmp_path, "checkpoint_every": 4}
    for cut_at in (0, 6), (0, 13), (1, 2), (1, 19):
        with pytest.raises(KeyboardInterrupt):
            script(cut_at, **options)
    assert same(list(script(**options)), list(expected))
    assert same(list(script(**options)), list(expected))  # and once more, where nothing is left to do


@pytest.mark.filterwarnings("ignore:left out 1 of 101 rows")
def test_a_run_without_the_rows_that_are_not_finite_goes_on_as_one_of_the_others(tmp_path):
    failed = torch.cat([ROWS[:40], torch.full((1, 3), float("nan")), ROWS[40:]])

    def script(data, callbacks=(), **options):
        options = {"batch_size": 16, "progress": False, "callbacks": callbacks, **options}
        return make().run(data, num_steps=20, **options).state_dict(), torch.get_rng_state()

    expected = script(ROWS)
    options = {"invalid": "exclude", "checkpoint": tmp_path, "checkpoint_every": 4}
    with pytest.raises(KeyboardInterrupt):
        script(failed, [Cut(9)], **options)
    assert same(list(script(failed, **options)), list(expected))
    other = failed.clone()
    other[0] = float("inf")
    with (
        pytest.warns(RuntimeWarning, match="left out 2 of 101 rows"),
        pytest.raises(ValueError, match=r"the run in .* was on data of .*100, 3.* but these are .*99, 3"),
    ):
        script(other, **options)


def test_only_the_newest_checkpoints_are_kept_and_a_longer_run_goes_on_from_them(tmp_path):
    make().run(ROWS, num_steps=20, progress=False, checkpoint=tmp_path / "new", checkpoint_every=5, keep=2)
    assert [path.name for path in sorted((tmp_path / "new").iterdir())] == [
        "step-000000015.state",
        "step-000000020.state",
    ]
    longer = make().run(ROWS, num_steps=30, progress=False, checkpoint=tmp_path / "new")
    assert longer.history["step"] == list(range(1, 31)) and longer.num_steps_taken == 30


def test_a_damaged_checkpoint_is_left_out_and_told(tmp_path):
    def run():
        return make().run(ROWS, num_steps=20, progress=False, checkpoint=tmp_path, checkpoint_every=5).state_dict()

    expected = run()
    newest = sorted(tmp_path.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match="a checkpoint is left out: .*step-000000020.state' is damaged"):
        assert same(run(), expected)


def test_a_folder_is_not_mixed_up(tmp_path):
    make().run(ROWS, num_steps=5, progress=False, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"holds checkpoints of another run, with which those of this one would mix"):
        make().run(ROWS, num_steps=5, progress=False, checkpoint=tmp_path, resume="never")
    with pytest.raises(ValueError, match="resume must be 'auto' or 'never', but is True"):
        make().run(ROWS, num_steps=5, progress=False, checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"the run in .* was on data of .*100, 3.* but these are .*50, 3"):
        make().run(ROWS[:50], num_steps=9, progress=False, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"of an inference whose loss is Relativistic\(\), but this one's is NonSat"):
        make(loss=NonSaturating(), penalty=R1()).run(ROWS, num_steps=9, progress=False, checkpoint=tmp_path)


def test_other_data_of_the_same_shape_are_told_apart(tmp_path):
    make().run(ROWS, num_steps=5, progress=False, checkpoint=tmp_path)
    for num_steps in (5, 9):  # also where nothing is left to do
        with pytest.raises(ValueError, match="was on data of"):
            make().run(ROWS + 1, num_steps=num_steps, progress=False, checkpoint=tmp_path)


def test_a_second_run_of_another_inference_does_not_write_among_others_files(tmp_path):
    make().run(ROWS, num_steps=50, progress=False, checkpoint=tmp_path, checkpoint_every=10)
    before = sorted(path.name for path in tmp_path.iterdir())
    other = make().run(ROWS, num_steps=2, progress=False)
    for resume in ("auto", "never"):
        with pytest.raises(ValueError, match="holds checkpoints of another run"):
            other.run(ROWS, num_steps=5, progress=False, checkpoint=tmp_path, resume=resume)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_script_that_is_run_again_is_told_so_and_has_its_callbacks_results(tmp_path, capsys):
    def script():
        best = KeepBest("gap", smaller_is_better=True)
        watch = [Evaluate(gap, ROWS, every=3, num_samples=9), best]
        inference = make().run(ROWS, num_steps=10, callbacks=watch, checkpoint=tmp_path, checkpoint_every=5)
        return best.value, best.step, inference.state_dict()

    first = script()
    capsys.readouterr()
    assert same(list(script()), list(first)) and first[1] > 0
    assert "going on from step 10/10" in capsys.readouterr().err


def test_a_kill_between_the_last_step_and_the_end_loses_no_ending(tmp_path):
    def script():
        watch = [Evaluate(gap, ROWS, every=3, num_samples=9), KeepBest("gap", smaller_is_better=True)]
        return (
            make()
            .run(ROWS, num_steps=10, progress=False, callbacks=watch, checkpoint=tmp_path, checkpoint_every=5)
            .state_dict()
        )

    class Killed(Exception):
        pass

    def killed_writing(self, is_over=False):
        if is_over:
            raise Killed
        return write(self, is_over)

    write, expected = Keeper.write, None
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Keeper, "write", killed_writing)
        script()
    expected = script()
    for path in tmp_path.iterdir():
        path.unlink()
    assert same(script(), expected)


def test_a_run_that_is_made_longer_has_a_final_mean_of_its_own(tmp_path):
    class Locations(Callback):
        def __init__(self):
            self.seen = []

        def on_step(self, inference):
            self.seen.append(inference.model.parameters["generator$$$0.bias"].detach().clone())

    make().run(ROWS, num_steps=8, progress=False, callbacks=[FinalMean(0.5)], checkpoint=tmp_path)
    seen = Locations()
    longer = make().run(ROWS, num_steps=16, progress=False, callbacks=[seen, FinalMean(0.25)], checkpoint=tmp_path)
    mean = torch.stack(seen.seen[-4:]).mean(0)
    assert torch.allclose(longer.model.parameters["generator$$$0.bias"], mean)


class Keeps(Callback):
    """Keeps something of its own."""

    def __init__(self, value):
        self.value, self.loaded = value, None

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.loaded = state["value"]


def test_what_a_callback_keeps_is_written_as_it_can_be_read(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make().run(
            ROWS, num_steps=9, progress=False, callbacks=[Keeps(np.float64(1.5)), Cut(4)],
            checkpoint=tmp_path, checkpoint_every=2,
        )  # fmt: skip
    again = Keeps(0.0)
    make().run(ROWS, num_steps=9, progress=False, callbacks=[again], checkpoint=tmp_path)
    assert again.loaded == 1.5
    with pytest.raises(
        ValueError, match=r"the state of Keeps.state_dict.* holds \{1\} \(set\), which no file can hold"
    ):
        make().run(ROWS, num_steps=3, progress=False, callbacks=[Keeps({1})], checkpoint=tmp_path / "new")


def test_an_iterator_that_has_been_read_is_not_read_on(tmp_path):
    source = (torch.randn(16, 3) for _ in range(1000))
    inference, options = make(), {"num_steps": 9, "progress": False, "checkpoint": tmp_path, "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        inference.run(source, callbacks=[Cut(5)], **options)
    with pytest.raises(ValueError, match=r"an iterator that has been read already in this process. Make a new one"):
        inference.run(source, **options)
    assert inference.run((torch.randn(16, 3) for _ in range(1000)), **options).num_steps_taken == 9


def test_the_generator_of_a_sampler_goes_on(tmp_path):
    def data():
        sampler = torch.utils.data.RandomSampler(range(100), generator=torch.Generator().manual_seed(5))
        return DataLoader(TensorDataset(ROWS), batch_size=16, sampler=sampler)

    def script(*callbacks, **options):
        return make().run(data(), num_steps=30, progress=False, callbacks=callbacks, **options).state_dict()

    with pytest.raises(KeyboardInterrupt):
        script(Cut(20), checkpoint=tmp_path, checkpoint_every=3)
    assert same(script(checkpoint=tmp_path), script())


def test_a_finished_run_needs_no_more_of_its_data_and_tells_its_end_without_effect(tmp_path):
    class Draws(Callback):
        def on_end(self, inference):
            inference.sample(10), inference.step(ROWS[:16], player="discriminator")

    def script(*callbacks, **options):
        inference, runs = make(), []
        for number in (25, 10):
            rows = ROWS.repeat(4, 1)
            inference.run(
                iter(rows.split(16)), num_steps=number, progress=False, callbacks=[Draws(), *callbacks], **options
            )
            runs.append(inference.state_dict())
        return runs[-1], torch.get_rng_state()

    expected, options = script(), {"checkpoint": tmp_path, "checkpoint_every": 4}
    cut = Cut(5)
    cut.on_start = lambda inference, num_steps: setattr(cut, "at", 5 if num_steps == 10 else -1)
    with pytest.raises(KeyboardInterrupt):
        script(cut, **options)
    for _ in range(2):
        assert same(list(script(**options)), list(expected))


def test_one_iterator_can_not_serve_two_runs_that_are_to_go_on(tmp_path):
    source = (torch.randn(16, 3) for _ in range(1000))
    inference = make().run(source, num_steps=3, progress=False, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="data is an iterator that an earlier run has read in part"):
        inference.run(source, num_steps=3, progress=False, checkpoint=tmp_path)


def test_a_folder_is_the_same_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inference = make()
    for name in ("new", str(tmp_path / "new"), "./new"):
        inference.run(ROWS, num_steps=3, progress=False, checkpoint=name)
    loaded = make(seed=1).load(max((tmp_path / "new").iterdir()))
    loaded.run(ROWS, num_steps=3, progress=False, checkpoint="new")
    assert loaded.history["step"] == list(range(1, 13))


def test_a_copy_has_no_part_in_the_originals_folder(tmp_path):
    inference = make().run(ROWS, num_steps=3, progress=False, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="holds checkpoints of another run"):
        copy.deepcopy(inference).run(ROWS, num_steps=3, progress=False, checkpoint=tmp_path)


@pytest.mark.parametrize("hook", ["on_start", "on_end"])
def test_an_interrupt_before_the_first_step_or_after_the_last_keeps_what_there_is(hook, tmp_path):
    class Interrupts(Callback):
        pass

    setattr(Interrupts, hook, lambda self, *arguments: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as caught:
        make().run(ROWS, num_steps=5, progress=False, callbacks=[Interrupts()], checkpoint=tmp_path)
    assert caught.value.__context__ is None
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005.state"] * (hook == "on_end")


def test_sites_may_be_asked_for_in_any_order(tmp_path):
    def inference():
        built = guided(BiGANInference)
        return BiGANInference(built.model.function, built.guide.function, site=["x", "z"])

    first = inference().run(ROWS[:, 0], num_steps=2, progress=False, checkpoint=tmp_path)
    state = first.state_dict()
    inference().load_state_dict(state)
    first.load_state_dict(state)


def test_options_are_compared_parameter_by_parameter(tmp_path):
    def model(batch_size):
        name = "a" if torch.rand(()) < 0.5 else "b"
        loc = pyro.param(name, torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0))
            pyro.deterministic("x", loc + eps, event_dim=0)

    def script(*callbacks, **options):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        optim = pyro.optim.Adam(lambda name: {"lr": 1e-2 if name == "a" else 1e-3})
        inference = GANInference(model, scalar_discriminator(4), optim)
        inference.run(ROWS[:, 0], num_steps=30, progress=False, callbacks=callbacks, **options)
        return inference.state_dict()["model"]

    expected = script()
    for at in (13, 17, 21, 25):
        with pytest.raises(KeyboardInterrupt):
            script(Cut(at), checkpoint=tmp_path / str(at), checkpoint_every=4)
        assert same(script(checkpoint=tmp_path / str(at)), expected)


@pytest.mark.parametrize(
    "kind", [torch.bool, torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.complex64]
)
def test_data_of_any_type_have_a_fingerprint(kind):
    rows = torch.arange(6000).reshape(2000, 3).to(kind)
    first, other = (Gathered((each,), 8, torch.device("cpu")) for each in (rows, rows.flip(0)[:, :1].expand(-1, 3)))
    assert first.description()["digest"] != other.description()["digest"]
    many = Gathered((torch.zeros(2**24 + 4, dtype=torch.uint8),), 8, torch.device("cpu"))
    assert len(many.description()["digest"]) == 16  # more rows than single precision can count


@pytest.mark.parametrize("value", [{1}, torch.nn.Linear(1, 1), [print]])
def test_what_a_callback_keeps_but_no_file_can_hold_is_an_error(value, tmp_path):
    with pytest.raises(ValueError, match=r"the state of Keeps.state_dict.*which no file can hold"):
        make().run(ROWS, num_steps=3, progress=False, callbacks=[Keeps(value)], checkpoint=tmp_path)


def test_a_schedule_goes_on_where_parameters_appear_after_resuming(tmp_path):
    def model(batch_size):
        loc = pyro.param("loc", torch.tensor(0.0))
        if len(steps) > 12:
            loc = loc + pyro.param("late", torch.tensor(0.0))
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", pyro.distributions.Normal(0.0, 1.0))
            pyro.deterministic("x", loc + eps, event_dim=0)

    class Count(Callback):
        def on_step(self, inference):
            steps[:] = range(inference.clock.done)

    def falling(leaves):
        return torch.optim.lr_scheduler.ExponentialLR(torch.optim.Adam(leaves, lr=0.01), 0.9)

    def script(*callbacks, **options):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        inference = GANInference(model, scalar_discriminator(4), falling, falling)
        inference.run(ROWS[:, 0], num_steps=20, progress=False, callbacks=[Count(), *callbacks], **options)
        return inference.state_dict(), [group["lr"] for group in inference.optim.optimizer.param_groups]

    steps = []
    expected, rates = script()
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        script(Cut(8), checkpoint=tmp_path, checkpoint_every=4)
    steps[:] = range(8)
    found, rates_found = script(checkpoint=tmp_path)
    assert rates_found == rates
    assert same(found["model"], expected["model"])


def test_callbacks_that_kept_something_must_be_there_again(tmp_path):
    watch = [Evaluate(gap, ROWS, every=3, num_samples=9), KeepBest("gap", smaller_is_better=True)]
    with pytest.raises(KeyboardInterrupt):
        make().run(
            ROWS, num_steps=9, progress=False, callbacks=[*watch, Cut(5)], checkpoint=tmp_path, checkpoint_every=2
        )
    with pytest.raises(ValueError, match=r"had a callback KeepBest that this one lacks. Pass the same callbacks"):
        make().run(ROWS, num_steps=9, progress=False, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": 3}, TypeError, r"checkpoint must be a folder's path, but is 3 \(int\)"),
        ({"checkpoint": __file__}, ValueError, "test_checkpoint.py' is a file, but a folder is expected"),
        ({"checkpoint": "x", "keep": 0}, ValueError, "keep must be a positive integer, but is 0"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be a positive integer, but is 0"),
    ],
)
def test_arguments_are_checked_before_anything_is_done(options, error, message):
    with pytest.raises(error, match=message):
        make().run(ROWS, num_steps=2, progress=False, **options)


def test_a_disk_that_fails_does_not_end_the_run(tmp_path):
    class Break(Callback):
        def on_step(self, inference):
            if inference.clock.step == 3:
                for path in (tmp_path / "new").iterdir():
                    path.unlink()
                (tmp_path / "new").rmdir()
                (tmp_path / "new").write_text("in the way")

    with pytest.warns(RuntimeWarning, match="no checkpoint could be written at step 4, the run goes on"):
        trained = make().run(
            ROWS, num_steps=9, progress=False, callbacks=[Break()], checkpoint=tmp_path / "new", checkpoint_every=2
        )
    assert trained.num_steps_taken == 9


# Files


@pytest.fixture
def saved(tmp_path):
    inference = make().run(ROWS, num_steps=3, progress=False)
    inference.save(tmp_path / "state")
    return tmp_path / "state", inference


def test_no_changed_file_loads(saved, tmp_path):
    path, inference = saved
    content, moments, fresh = path.read_bytes(), random.Random(0), make(seed=1)
    for number in range(300):
        changed = bytearray(content)
        if number % 3:
            changed[moments.randrange(len(changed))] ^= 1 << moments.randrange(8)
        else:
            del changed[moments.randrange(len(changed)) :]
        (tmp_path / "changed").write_bytes(changed)
        with pytest.raises(ValueError, match=r"is damaged|is no file that save wrote|is empty|by another version"):
            fresh.load(tmp_path / "changed")
    assert same(fresh.load(path).state_dict(), inference.state_dict())


class Runs:
    """What a pickle could run."""

    def __reduce__(self):
        return (RAN.append, (1,))


RAN = []


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nothing_that_a_file_holds_is_ever_run(saved, tmp_path, slow):
    """Even with a right checksum: mutated payloads end as an error, or as a state that the inference refuses or has."""
    import hashlib

    path, _ = saved
    payload, moments = path.read_bytes()[len(FORMAT) + 65 :], random.Random(1)
    target = tmp_path / "mutated"

    def write(bytes_):
        target.write_bytes(FORMAT + hashlib.sha256(bytes_).hexdigest().encode() + b"\n" + bytes_)

    write(pickle.dumps({"state": Runs()}))
    with pytest.raises(ValueError, match="holds no state"):
        read_file(target)
    start = payload.find(b"data.pkl") + 8
    for _ in range(2000 if slow else 200):
        changed = bytearray(payload)
        for _ in range(moments.randint(1, 4)):
            changed[moments.randrange(start, start + 4000)] = moments.randrange(256)
        write(bytes(changed))
        try:
            make().load(target)
        except ValueError as error:
            assert str(error)
    assert not RAN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty. Pass a file that save wrote"),
        (b"hello, world, this is no state", "is no file that save wrote"),
        (b"pyro_gan state 2\n" + b"0" * 65, "was written by another version of pyro_gan. Read it with that version"),
    ],
)
def test_other_files_are_named_as_what_they_are(content, message, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        make().load(tmp_path / "file")


def test_a_file_of_torch_save_is_told_from_one_of_save(saved, tmp_path):
    _, inference = saved
    torch.save(inference.state_dict(), tmp_path / "torch")
    with pytest.raises(ValueError, match=r"was written by torch.save.*load_state_dict\(torch.load"):
        make().load(tmp_path / "torch")
    other = make(seed=1)
    other.load_state_dict(torch.load(tmp_path / "torch", weights_only=True))
    assert same(other.state_dict(), inference.state_dict())


def test_the_old_file_is_there_until_the_new_one_is_whole(saved, monkeypatch):
    path, inference = saved
    before = path.read_bytes()

    def fails(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        inference.save(path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_state_of_a_million_steps_is_saved_and_loaded_in_no_time(saved):
    path, inference = saved
    for name, values in inference.history.items():
        values[:] = range(1, 10**6 + 1) if name == "step" else [0.5] * 10**6
    start = time.process_time()
    inference.save(path)
    loaded = make().load(path)
    assert loaded.history == inference.history
    assert time.process_time() - start < 5  # not the time, which benchmarks tell, but no half a minute either


def test_a_process_that_is_killed_goes_on_to_the_last_bit(tmp_path):
    number, _, agrees = killed(2, tmp_path)
    assert number == 2 and agrees


# What a state is a state of


def guided(kind):
    pyro.clear_param_store()
    return kind(linear_model, slope_guide, loss=NonSaturating(), discriminator_steps=1)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"discriminator_steps": 2}, "whose discriminator_steps is 1, but this one's is 2"),
        ({"site": ["y"]}, "whose compared sites are 'x', but this one's are 'y'"),
        ({"optim": lambda leaves: torch.optim.lr_scheduler.StepLR(torch.optim.Adam(leaves, 1e-3), 5)}, "StepLR"),
        (
            {"optim": lambda leaves: torch.optim.Adam(leaves, 1e-4)},
            r"Adam\(lr=0.001\), but this one is Adam\(lr=0.0001\)",
        ),
    ],
)
def test_what_else_a_state_belongs_to(made, message):
    def adam(leaves):
        return torch.optim.Adam(leaves, 1e-3)

    state = make(optim=adam).run(ROWS, num_steps=2, progress=False).state_dict()
    other = make(**{"optim": adam, **made})
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
        other.step(ROWS)


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(clock=3),
        lambda state: state.update(history={"step": 1}),
        lambda state: state.update(history={"step": [1], "generator_loss": []}),
        lambda state: state.update(average={"values": 1}),
        lambda state: state.update(optim=[]),
        lambda state: state["optim"].update(groups=[{}]),
        lambda state: state["model"].update(parameters={"a": 1.0}),
        lambda state: state.update(num_updates="many"),
        lambda state: state.update(description="GAN"),
        lambda state: state["description"].update(loss=None),
        lambda state: state["model"].pop("sites"),
        lambda state: state["model"].update(sites=[1]),
        lambda state: state["model"].update(size=1),
        lambda state: state["discriminator"].update(built={"x": None}),
        lambda state: state["optim"].update(chosen=None),
        lambda state: state["optim"]["chosen"].pop("class"),
        lambda state: state["optim"]["chosen"].update(options=None),
    ],
)
def test_a_state_that_is_changed_in_form_is_refused_and_nothing_changes(change, taken):
    state = make().run(ROWS, num_steps=2, progress=False).state_dict()
    change(state)
    other = make(seed=1)
    if taken:
        other.run(ROWS, num_steps=taken, progress=False)
    before = [leaf.detach().clone() for leaf in all_parameters(other)]
    history = {name: list(values) for name, values in other.history.items()}
    with pytest.raises(ValueError, match=r"expected a state that state_dict\(\) returned, but this is none"):
        other.load_state_dict(state)
    assert all(map(torch.equal, before, all_parameters(other))) and other.history == history


def test_a_penalty_whose_weight_a_callback_moves_is_still_itself(tmp_path):
    class Doubling(Penalty):
        def __init__(self):
            self.strength = 1.0

        def __call__(self, judgement):
            return self.strength * judgement.real_logits.square()

        def after_update(self, parameters):
            self.strength *= 2

    first = make(loss=NonSaturating(), penalty=Doubling()).run(ROWS, num_steps=3, progress=False)
    first.save(tmp_path / "state")
    make(loss=NonSaturating(), penalty=Doubling()).load(tmp_path / "state")
    first.load(tmp_path / "state")


def test_a_bigans_state_is_not_implicit_klqps():
    state = guided(BiGANInference).run(ROWS[:, 0], num_steps=2, progress=False).state_dict()
    with pytest.raises(ValueError, match="whose class is BiGANInference, but this one's is ImplicitKLqp"):
        guided(ImplicitKLqp).load_state_dict(state)


def test_a_wgans_state_is_not_a_gans():
    pyro.clear_param_store()
    state = (
        WGANInference(location_model, scalar_discriminator(4)).run(ROWS[:, 0], num_steps=2, progress=False).state_dict()
    )
    pyro.clear_param_store()
    with pytest.raises(
        ValueError, match=r"whose class is WGANInference, but this one's is GANInference. Load it into one"
    ):
        GANInference(location_model, scalar_discriminator(4)).load_state_dict(state)


def test_penalties_of_other_weights_are_others():
    state = make(loss=NonSaturating(), penalty=R1(1.0)).run(ROWS, num_steps=2, progress=False).state_dict()
    with pytest.raises(ValueError, match=r"penalties is R1\(.*final_weight=1.0.*but this one's is R1\(.*=10.0"):
        make(loss=NonSaturating(), penalty=R1()).load_state_dict(state)


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3)])
def test_a_state_of_more_or_fewer_layers_is_refused_and_nothing_changes(before, after, taken):
    state = make(depth=before).run(ROWS, num_steps=2, progress=False).state_dict()
    other = make(seed=1, depth=after)
    if taken:
        other.run(ROWS, num_steps=taken, progress=False)
    values = [leaf.detach().clone() for leaf in (*all_parameters(other), other.discriminator.function[0].weight)]
    message = (
        "has no parameter 'generator"
        if before < after
        else r"has a parameter 'generator\$\$\$4.weight' that there is no"
    )
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
        other.step(ROWS)
    now = [*all_parameters(other), other.discriminator.function[0].weight]
    assert all(map(torch.equal, values, now))


def all_parameters(inference):
    return list(generator_of(inference).parameters())


def generator_of(inference):
    """The network that the model's function closes over."""
    return next(
        cell.cell_contents
        for cell in inference.model.function.__closure__
        if isinstance(cell.cell_contents, torch.nn.Module)
    )


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize(
    ("optim", "message"),
    [
        (lambda leaves: torch.optim.Adam(leaves, 1e-3), r"optim is that of AdamW\(.*\), but this one is Adam\("),
        (
            lambda leaves: torch.optim.AdamW(leaves, 2e-3, betas=(0.9, 0.999), weight_decay=0.0),
            r"that of AdamW\(betas=\[0.0, 0.99\]\), but this one is AdamW\(betas=\[0.9, 0.999\]\). Make the inference",
        ),
    ],
)
def test_the_state_of_another_optimizer_is_refused(optim, message, taken):
    state = make().run(ROWS, num_steps=2, progress=False).state_dict()
    other = make(seed=1, optim=optim)
    if taken:
        other.run(ROWS, num_steps=1, progress=False)
    before = [leaf.detach().clone() for leaf in all_parameters(other)]
    for _ in range(2):  # the second time as well
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)
            other.step(ROWS)
    assert all(map(torch.equal, before, all_parameters(other)))


def forget(options):
    del options["maximize"]


def add(options):
    options["later"] = False


@pytest.mark.parametrize("change", [forget, add])
@pytest.mark.parametrize("taken", [0, 1])
def test_the_state_of_an_optimizer_of_another_version_of_torch_is_read(taken, change):
    """Some versions know options that others do not."""
    inference = make().run(ROWS, num_steps=2, progress=False)
    state = copy.deepcopy(inference.state_dict())
    pyro.set_rng_seed(2)
    inference.step(ROWS)
    expected = [leaf.detach().clone() for leaf in all_parameters(inference)]
    for name in ("optim", "optim_d"):
        groups = [group["options"] for group in state[name]["groups"]]
        for options in (*state[name]["chosen"]["options"].values(), *groups):
            change(options)
    other = make(seed=1)
    if taken:
        other.run(ROWS, num_steps=1, progress=False)
    other.load_state_dict(state)
    pyro.set_rng_seed(2)
    other.step(ROWS)
    assert all(map(torch.equal, all_parameters(other), expected))


def switch_on(options):
    options["later"] = True


def forget_all(options):
    options.clear()


@pytest.mark.parametrize(("change", "told"), [(switch_on, "later=True"), (forget_all, "betas=None")])
def test_options_that_one_version_lacks_have_to_be_off(change, told):
    state = copy.deepcopy(make().run(ROWS, num_steps=2, progress=False).state_dict())
    for options in state["optim"]["chosen"]["options"].values():
        change(options)
    other = make(seed=1)
    with pytest.raises(ValueError, match=f"the state of optim is that of .*{told}.*, but this one is"):
        other.load_state_dict(state)
        other.step(ROWS)


@pytest.mark.parametrize("taken", [0, 1])
def test_moments_of_another_shape_are_refused(taken):
    state = make().run(ROWS, num_steps=2, progress=False).state_dict()
    name = "generator$$$0.weight"
    state["optim"]["state"][name]["exp_avg"] = torch.zeros(1, 1)
    other = make(seed=1)
    if taken:
        other.run(ROWS, num_steps=1, progress=False)
    with pytest.raises(ValueError, match=r"has 'exp_avg' of shape \(1, 1\) for the parameter 'generator.*\(8, 2\)"):
        other.load_state_dict(state)
        other.step(ROWS)


def test_numpys_numbers_among_options_are_saved_and_loaded(tmp_path):
    def adam(leaves):
        return torch.optim.Adam(leaves, lr=np.float64(1e-3), betas=(np.float64(0.5), np.float64(0.9)))

    first = make(optim=adam).run(ROWS, num_steps=2, progress=False)
    first.save(tmp_path / "state")
    second = make(seed=1, optim=adam).load(tmp_path / "state")
    assert same(second.state_dict(), first.state_dict())
    second.run(ROWS, num_steps=1, progress=False)


def test_what_no_file_can_hold_is_named():
    class Strange(torch.optim.SGD):
        def __init__(self, leaves):
            super().__init__(leaves, lr=0.1)
            self.param_groups[0]["strange"] = {1, 2}

    inference = make(optim=Strange)
    inference.step(ROWS)
    with pytest.raises(ValueError, match=r"the state of optim.*holds \{1, 2\} \(set\), which no file can hold"):
        inference.state_dict()


def test_a_run_can_not_be_loaded_into(tmp_path):
    class Loads(Callback):
        def on_step(self, inference):
            inference.load(tmp_path / "state")

    inference = make().run(ROWS, num_steps=1, progress=False)
    inference.save(tmp_path / "state")
    with pytest.raises(ValueError, match="load_state_dict was called while a run"):
        inference.run(ROWS, num_steps=1, progress=False, callbacks=[Loads()])


def test_a_loaded_state_can_be_saved_before_any_step(saved, tmp_path):
    path, inference = saved
    make(seed=1).load(path).save(tmp_path / "again")
    assert same(make(seed=2).load(tmp_path / "again").state_dict(), inference.state_dict())


def test_files_hold_tensors_numbers_strings_lists_and_dictionaries(tmp_path):
    content = {"tensor": torch.arange(3), "nested": [{"a": 1.5, "b": None}, "text", True]}
    write_file(tmp_path / "file", content)
    assert same(read_file(tmp_path / "file"), content)


# Files of the past


STORED = Path(__file__).parent / "states"


def test_a_stored_state_of_the_first_format_is_read():
    """What a later version can not read, it must refuse by saying so; until then it reads these."""
    inference = stored.gan().load(STORED / "gan-1.state")
    history = inference.history
    assert history["step"] == [1, 2, 3, 4, 5] and history["score"][-1] == 0.25
    assert inference.num_steps_taken == 5 and inference.clock.step == 5
    state = inference.state_dict()
    loc, average = state["model"]["parameters"]["loc"], state["average"]["values"]["loc"]
    inference.sample(3)
    assert pyro.param("loc").item() == loc.item() != 0
    assert inference.average.values["loc"] == average != loc
    inference.run(stored.DATA, num_steps=2, batch_size=10, progress=False)
    assert inference.history["step"][-1] == 7


def test_a_stored_posterior_of_the_first_format_answers():
    inference = stored.bigan().load(STORED / "bigan-1.state")
    draws = inference.sample_posterior(torch.tensor(1.0), num_samples=500)["z"]
    assert draws.shape == (500,) and 0.3 < draws.std() < 3
    inference.run(stored.DATA, num_steps=1, batch_size=10, progress=False)
    with pytest.raises(ValueError, match="whose class is BiGANInference, but this one's is GANInference"):
        stored.gan().load(STORED / "bigan-1.state")
