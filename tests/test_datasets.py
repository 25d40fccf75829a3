import gzip
import hashlib
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyro
import pytest
import torch
from sklearn import datasets as sklearn_datasets

from pyro_gan import datasets
from pyro_gan.datasets import MNIST_FILES, grid, load_digits, load_mnist, read_idx, ring

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = MNIST_FILES
SMALL_MNIST = {
    TRAIN_IMAGES: np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2),
    TRAIN_LABELS: np.array([5, 0, 4, 1, 9], np.uint8),
    TEST_IMAGES: np.full((2, 3, 2), 255, np.uint8),
    TEST_LABELS: np.array([7, 2], np.uint8),
}


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file, written as the format's description says: all big-endian, 8 for unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def write_small_mnist(folder: Path, suffix: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in SMALL_MNIST.items():
        content = idx_bytes(array)
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    return folder


class Server(NamedTuple):
    url: str
    asked: list[str]
    """The paths that were asked for."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server on this machine with the small files under `/files/`, and with their checksums in place."""
    folder = tmp_path / "served"
    write_small_mnist(folder / "files")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_request(self, *args: object) -> None:
            asked.append(self.path)

        def log_message(self, *args: object) -> None:
            pass

    checksums = {
        name: hashlib.md5((folder / "files" / f"{name}.gz").read_bytes(), usedforsecurity=False).hexdigest()
        for name in MNIST_FILES
    }
    monkeypatch.setattr(datasets, "MNIST_FILES", checksums)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Server(f"http://127.0.0.1:{server.server_port}/", asked)
    server.shutdown()
    server.server_close()
    thread.join()


def assert_is_small_mnist(mnist: datasets.MNIST) -> None:
    for part, images, labels in (mnist.train, TRAIN_IMAGES, TRAIN_LABELS), (mnist.test, TEST_IMAGES, TEST_LABELS):
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.images.tolist() == SMALL_MNIST[images].reshape(len(SMALL_MNIST[images]), -1).tolist()
        assert part.labels.tolist() == SMALL_MNIST[labels].tolist()


def test_digits_are_scikit_learns_with_their_17_levels_spread_over_the_bytes():
    expected = sklearn_datasets.load_digits()
    digits = load_digits()
    assert (digits.images.shape, digits.images.dtype) == ((1797, 64), torch.uint8)
    assert (digits.labels.shape, digits.labels.dtype) == ((1797,), torch.int64)
    assert digits.labels.tolist() == expected.target.tolist()
    levels = digits.images.unique()
    assert (len(levels), levels[0], levels[8], levels[-1]) == (17, 0, 128, 255)
    assert np.array_equal((digits.images.double() * (16 / 255)).round().numpy(), expected.data)


@pytest.mark.parametrize("num_modes, radius", [(1, 1.0), (4, 1.0), (8, 1.0), (5, 2.5)])
def test_ring_centers_are_the_roots_of_unity(num_modes, radius):
    centers = ring(10, num_modes=num_modes, radius=radius).centers
    expected = radius * np.exp(2j * math.pi * np.arange(num_modes) / num_modes)
    assert centers.shape == (num_modes, 2)
    np.testing.assert_allclose(centers.numpy(), np.stack([expected.real, expected.imag], 1), atol=1e-6)


@pytest.mark.parametrize("num_modes_a_side, spacing", [(1, 2.0), (2, 1.0), (5, 2.0), (4, 0.5)])
def test_grid_centers_are_evenly_spaced_around_the_origin(num_modes_a_side, spacing):
    centers = grid(10, num_modes_a_side=num_modes_a_side, spacing=spacing).centers
    end = spacing * (num_modes_a_side - 1) / 2
    ticks = np.linspace(-end, end, num_modes_a_side)
    assert sorted(map(tuple, centers.tolist())) == [(x, y) for x in ticks for y in ticks]


MIXTURES = [
    (lambda num_rows: ring(num_rows), 8, 0.01),
    (lambda num_rows: ring(num_rows, num_modes=3, radius=2.0, scale=0.1), 3, 0.1),
    (lambda num_rows: grid(num_rows), 25, 0.05),
    (lambda num_rows: grid(num_rows, num_modes_a_side=3, spacing=4.0, scale=0.2), 9, 0.2),
]


@pytest.mark.parametrize("draw, num_modes, scale", MIXTURES)
def test_mixture_rows_scatter_around_the_centers_of_their_labels(draw, num_modes, scale):
    pyro.set_rng_seed(0)
    mixture = draw(20_000)
    assert (mixture.rows.shape, mixture.labels.shape) == ((20_000, 2), (20_000,))
    assert mixture.labels.dtype == torch.int64
    assert mixture.scale == scale
    residuals = mixture.rows - mixture.centers[mixture.labels]
    # a standard deviation of 20,000 rows strays by 0.5 % from the true one, and a mean by 0.7 % of it
    assert residuals.std(0).tolist() == pytest.approx([scale, scale], rel=0.03)
    assert residuals.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=0.04 * scale)
    assert torch.corrcoef(residuals.T)[0, 1].abs() < 0.04


@pytest.mark.parametrize("draw, num_modes, scale", MIXTURES)
def test_mixture_labels_are_the_nearest_centers_and_equally_likely(draw, num_modes, scale):
    pyro.set_rng_seed(0)
    mixture = draw(20_000)
    assert torch.equal(torch.cdist(mixture.rows, mixture.centers).argmin(1), mixture.labels)
    counts = mixture.labels.bincount(minlength=num_modes)
    mean = 20_000 / num_modes
    assert len(counts) == num_modes
    assert (counts - mean).abs().max() < 5 * math.sqrt(mean)


@pytest.mark.parametrize("draw", [ring, grid])
def test_mixtures_are_torchs_seeds_to_reproduce(draw):
    pyro.set_rng_seed(3)
    first, other = draw(100), draw(100)
    pyro.set_rng_seed(3)
    again = draw(100)
    assert torch.equal(first.rows, again.rows)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.rows, other.rows)


@pytest.mark.parametrize("shape", [(4,), (3, 2, 2), (1, 28, 28), (2, 3, 1, 2), (0,)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_with_their_shape(shape, suffix, tmp_path):
    array = (np.arange(math.prod(shape)) * 37 % 256).astype(np.uint8).reshape(shape)
    content = idx_bytes(array)
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    for given in (path, str(path)):
        tensor = read_idx(given)
        assert tensor.dtype == torch.uint8
        assert tensor.shape == shape
        assert tensor.tolist() == array.tolist()


def test_what_is_read_from_an_idx_file_can_be_written_to(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    tensor = read_idx(path)
    tensor += 1
    assert tensor.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_gzipped_file_that_is_cut_is_refused(kept, tmp_path):
    archive = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)))
    path = tmp_path / "cut.gz"
    path.write_bytes(archive[: int(kept * len(archive))])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is truncated or corrupt \(.*Delete it and load"):
        read_idx(path)


@pytest.mark.parametrize("position", [0, 200, -6], ids=["magic number", "data", "checksum"])
def test_gzipped_file_with_a_wrong_byte_is_refused(position, tmp_path):
    archive = bytearray(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8))))
    archive[position] ^= 0xFF
    path = tmp_path / "wrong.gz"
    path.write_bytes(archive)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is truncated or corrupt \("):
        read_idx(path)


def test_file_that_is_only_named_gz_is_refused(tmp_path):
    path = tmp_path / "plain.gz"
    path.write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match="is truncated or corrupt"):
        read_idx(path)


@pytest.mark.parametrize(
    "change, shape, number",
    [
        (lambda content: content[:-1], "(3, 2, 2)", 11),
        (lambda content: content[: len(content) // 2], "(3, 2)", 0),
        (lambda content: content[:16], "(3, 2, 2)", 0),
        (lambda content: content[:10], "(3,)", 0),
        (lambda content: content[:4], "()", 0),
        (lambda content: content + b"\0", "(3, 2, 2)", 13),
        (lambda content: content[:4] + b"\xff\xff\xff\xff" + content[8:], "(4294967295, 2, 2)", 12),
    ],
    ids=["a byte short", "half", "header alone", "half a header", "four bytes", "a byte long", "huge first dimension"],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_file_whose_length_is_not_what_the_header_says_is_refused(change, shape, number, suffix, tmp_path):
    content = change(idx_bytes(np.ones((3, 2, 2), np.uint8)))
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    text = f"{path} is truncated or corrupt: its header gives the shape {shape}, but {number} bytes follow."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        read_idx(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\x01" + b"\0" * 4, b"\x01\0\x08\x01\0\0\0\0", b"<!DOCTYPE html>"],
    ids=["empty", "three bytes", "floats", "no zeros", "web page"],
)
def test_file_that_is_no_idx_file_of_bytes_is_refused(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is no IDX file of bytes\. Delete it and load"):
        read_idx(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("kind", [str, Path])
def test_mnist_is_read_from_a_folder(suffix, kind, tmp_path):
    assert_is_small_mnist(load_mnist(kind(write_small_mnist(tmp_path, suffix)), download=False))


def test_mnist_is_read_from_a_folder_where_only_some_files_are_gzipped(tmp_path):
    write_small_mnist(tmp_path, "")
    packed = tmp_path / TRAIN_IMAGES
    packed.with_name(f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(packed.read_bytes()))
    packed.unlink()
    assert_is_small_mnist(load_mnist(tmp_path, download=False))


def test_mnist_is_read_below_the_folder_of_the_environment_variable(tmp_path, monkeypatch):
    write_small_mnist(tmp_path / "mnist")
    monkeypatch.setenv("PYRO_GAN_DATA", str(tmp_path))
    assert_is_small_mnist(load_mnist(download=False))


def test_mnist_is_read_below_the_users_cache_by_default(tmp_path, monkeypatch):
    write_small_mnist(tmp_path / "pyro_gan" / "mnist")
    monkeypatch.delenv("PYRO_GAN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert_is_small_mnist(load_mnist(download=False))


def test_mnist_is_read_below_the_home_folder_where_no_cache_is_named(tmp_path, monkeypatch):
    write_small_mnist(tmp_path / ".cache" / "pyro_gan" / "mnist")
    monkeypatch.delenv("PYRO_GAN_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_is_small_mnist(load_mnist(download=False))


def test_named_folder_comes_before_the_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_GAN_DATA", str(tmp_path / "elsewhere"))
    assert_is_small_mnist(load_mnist(write_small_mnist(tmp_path / "here"), download=False))


class Expected(NamedTuple):
    """What a folder of MNIST files holds."""

    folder: Callable[[Path], Path]
    num_rows: tuple[int, int]
    num_pixels: int
    mean_pixel: float


FOLDERS = {"small": Expected(write_small_mnist, (5, 2), 6, 14.5)}
if "PYRO_GAN_DATA" in os.environ:  # the real files: 60,000 and 10,000 images whose mean pixel is 0.1307 of 255
    REAL_FOLDER = Path(os.environ["PYRO_GAN_DATA"]) / "mnist"
    FOLDERS["real"] = Expected(lambda tmp_path: REAL_FOLDER, (60_000, 10_000), 28 * 28, 33.318)


@pytest.mark.parametrize("expected", FOLDERS.values(), ids=FOLDERS)
def test_mnist_has_the_known_shapes_first_label_and_mean(expected, tmp_path):
    mnist = load_mnist(expected.folder(tmp_path), download=False)
    for part, num_rows in zip(mnist, expected.num_rows, strict=True):
        assert part.images.shape == (num_rows, expected.num_pixels)
        assert part.labels.shape == (num_rows,)
        assert 0 <= part.labels.min() <= part.labels.max() <= 9
    assert (mnist.train.labels[0], mnist.test.labels[0]) == (5, 7)
    assert mnist.train.images.sum().item() / mnist.train.images.numel() == pytest.approx(expected.mean_pixel, abs=0.01)


@pytest.mark.parametrize("name", MNIST_FILES)
def test_missing_file_is_named_where_nothing_is_to_be_downloaded(name, tmp_path):
    (write_small_mnist(tmp_path) / f"{name}.gz").unlink()
    text = f"{name} (or {name}.gz) is not in {tmp_path}. Pass root= the folder of the MNIST files, or download=True."
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(text)}"):
        load_mnist(tmp_path, download=False)


@pytest.mark.parametrize(
    "name, array, shapes",
    [
        (TRAIN_LABELS, np.zeros(4, np.uint8), "images of shape (5, 3, 2) and labels of shape (4,)"),
        (TEST_LABELS, np.zeros((2, 1), np.uint8), "images of shape (2, 3, 2) and labels of shape (2, 1)"),
        (TEST_IMAGES, np.zeros(2, np.uint8), "images of shape (2,) and labels of shape (2,)"),
    ],
)
def test_images_and_labels_that_do_not_belong_together_are_refused(name, array, shapes, tmp_path):
    (write_small_mnist(tmp_path) / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    text = f"the MNIST files in {tmp_path} do not belong together: {shapes}. Delete them and load again."
    with pytest.raises(ValueError, match=re.escape(text)):
        load_mnist(tmp_path, download=False)


def test_truncated_mnist_file_is_refused_by_name(tmp_path):
    path = write_small_mnist(tmp_path) / f"{TEST_IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is truncated or corrupt"):
        load_mnist(tmp_path)


def test_missing_files_are_downloaded_once(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (mirror.url + "files/",))
    folder = tmp_path / "new" / "folder"
    assert_is_small_mnist(load_mnist(folder))
    assert mirror.asked == [f"/files/{name}.gz" for name in MNIST_FILES]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in MNIST_FILES)
    assert_is_small_mnist(load_mnist(folder))
    assert len(mirror.asked) == 4


def test_only_missing_files_are_downloaded(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (mirror.url + "files/",))
    (write_small_mnist(tmp_path / "folder") / f"{TEST_LABELS}.gz").unlink()
    assert_is_small_mnist(load_mnist(tmp_path / "folder"))
    assert mirror.asked == [f"/files/{TEST_LABELS}.gz"]


def test_second_mirror_is_asked_where_the_first_fails(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (mirror.url + "nothing-here/", mirror.url + "files/"))
    assert_is_small_mnist(load_mnist(tmp_path / "folder"))
    assert mirror.asked == [f"/{place}/{name}.gz" for name in MNIST_FILES for place in ("nothing-here", "files")]


def test_file_with_a_wrong_checksum_is_refused_and_not_kept(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (mirror.url + "files/",))
    monkeypatch.setitem(datasets.MNIST_FILES, TRAIN_LABELS, "0" * 32)
    folder = tmp_path / "folder"
    with pytest.raises(FileNotFoundError, match=rf"^{TRAIN_LABELS}\.gz is not in .* no mirror gave it.*MD5 hash"):
        load_mnist(folder)
    assert [path.name for path in folder.iterdir()] == [f"{TRAIN_IMAGES}.gz"]


def test_second_mirror_is_asked_where_the_first_has_another_file(mirror, tmp_path, monkeypatch):
    other = tmp_path / "served" / "other"
    write_small_mnist(other)
    (other / f"{TEST_IMAGES}.gz").write_bytes(gzip.compress(b"another file"))
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (mirror.url + "other/", mirror.url + "files/"))
    assert_is_small_mnist(load_mnist(tmp_path / "folder"))
    assert [path for path in mirror.asked if path.startswith("/files/")] == [f"/files/{TEST_IMAGES}.gz"]


def test_what_every_mirror_answered_is_told_where_all_fail(mirror, tmp_path, monkeypatch):
    closed = "http://127.0.0.1:1/"
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (mirror.url + "nothing-here/", closed))
    text = f"{TRAIN_IMAGES}.gz is not in {tmp_path} and no mirror gave it. Download it by hand and pass root=. "
    answers = rf"{re.escape(mirror.url)}nothing-here/: 404 .*; {re.escape(closed)}: .*[Cc]onnection"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(text)}{answers}"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("arguments", [{"num_rows": -1}, {"num_rows": 3, "num_modes": 0}])
def test_a_ring_wants_positive_counts(arguments):
    with pytest.raises(ValueError, match="must be a positive integer"):
        ring(**arguments)


def test_a_grid_wants_whole_counts():
    with pytest.raises(TypeError, match="num_modes_a_side must be a positive integer"):
        grid(3, num_modes_a_side=2.5)
