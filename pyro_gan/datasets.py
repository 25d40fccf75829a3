"""Data to begin with: handwritten digits, and two-dimensional mixtures whose modes can be counted.

Images are bytes from 0 to 255, one image a row; `transform=lambda x: x / 255` in `run` scales them on the device.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import positive_integer, shown

Shape = Literal["flat", "image"]
"""How an image is laid out in a row: as one vector, or as (channels, height, width)."""

MNIST_FILES = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""The files of MNIST, and the MD5 of each one's gzip archive."""

MOST_BYTES = 2**31
"""The pixels of the largest file that is read."""

MARGIN = 2**20
"""The bytes beyond a header's promise that are read, to tell how many there are."""

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


class LabelledImages(NamedTuple):
    """Images and what they show."""

    images: Tensor
    """Pixels as bytes from 0 (background) to 255, with shape `(num_rows, height * width)`, or with `shape="image"`
    `(num_rows, 1, height, width)`."""
    labels: Tensor
    """The digit each image shows, as int64 with shape `(num_rows,)`."""


class MNIST(NamedTuple):
    """The two parts of MNIST, of 28 by 28 pixels each."""

    train: LabelledImages
    test: LabelledImages


class GaussianMixture(NamedTuple):
    """Rows drawn from equally likely Gaussians of equal, round spread."""

    rows: Tensor
    """The points, with shape `(num_rows, 2)`."""
    labels: Tensor
    """The mode each point was drawn from, as int64 with shape `(num_rows,)`."""
    centers: Tensor
    """The modes' means, with shape `(num_modes, 2)`."""
    scale: float
    """The standard deviation along each axis."""


def load_digits(shape: Shape = "flat") -> LabelledImages:
    """The 1,797 real handwritten digits of 8 by 8 pixels that scikit-learn ships, so that nothing is downloaded.

    Their 17 grey levels are spread over the bytes.

    Args:
        shape: `"flat"` for rows that are vectors, `"image"` for rows with shape (1, 8, 8), as convolutions take them.

    Returns:
        Images with shape `(1797, 64)` or `(1797, 1, 8, 8)`, and their labels.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: `shape` is neither.

    References:
        Alpaydin and Kaynak (1998), "Optical Recognition of Handwritten Digits".
    """
    _check_shape(shape)
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError("load_digits needs scikit-learn. Install pyro_gan[examples].") from None
    images, labels = datasets.load_digits(return_X_y=True)
    bytes_of = torch.from_numpy(images * (255 / 16)).round().to(torch.uint8)
    return LabelledImages(_laid_out(bytes_of.reshape(-1, 8, 8), shape), torch.from_numpy(labels).long())


def load_mnist(root: str | os.PathLike[str] | None = None, download: bool = True, *, shape: Shape = "flat") -> MNIST:
    """The MNIST database of handwritten digits.

    Args:
        root: The folder with the four IDX files, gzipped (`.gz`) or not. By default the folder `mnist/` below that
            of the environment variable `PYRO_GAN_DATA`, or below the user's cache where that is not set.
        download: Whether missing files are downloaded there from public mirrors, their checksums compared.
        shape: `"flat"` for rows that are vectors, `"image"` for rows with shape (1, 28, 28), as convolutions take them.

    Returns:
        60,000 training and 10,000 test images of 28 by 28 pixels.

    Raises:
        FileNotFoundError: A file is missing and could not be, or was not to be, downloaded.
        ValueError: A file is truncated or corrupt; the message names it. Or `shape` is neither.

    References:
        LeCun, Bottou, Bengio and Haffner (1998), "Gradient-Based Learning Applied to Document Recognition".
    """
    _check_shape(shape)
    folder = _mnist_folder() if root is None else Path(root)
    train_images, train_labels, test_images, test_labels = (
        read_idx(_find(folder, name, download)) for name in MNIST_FILES
    )
    return MNIST(
        _labelled(train_images, train_labels, folder, shape), _labelled(test_images, test_labels, folder, shape)
    )


def read_idx(path: str | os.PathLike[str]) -> Tensor:
    """Read an IDX file of bytes, gzipped where its name ends in `.gz`.

    Args:
        path: The file.

    Returns:
        Bytes (`torch.uint8`) with the shape that the file's header gives.

    Raises:
        ValueError: The file is truncated, corrupt, or no IDX file of bytes.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            # An IDX header: two zero bytes, the type (8 is bytes), the number of dimensions, then each as four bytes.
            kind = file.read(4)
            if len(kind) < 4 or kind[:3] != b"\0\0\x08":
                raise ValueError(f"{path} is no IDX file of bytes. Delete it and load again.")
            sizes = file.read(4 * kind[3])
            shape = np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4").tolist()
            expected = math.prod(shape)
            # A little more than that, whatever an archive unpacks to.
            most = (expected if expected <= MOST_BYTES else 0) + MARGIN
            content = file.read(most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}). Delete it and load again.") from None
    if len(sizes) != 4 * kind[3] or len(content) != expected:
        at_least = "at least " if len(content) == most else ""
        raise ValueError(
            f"{path} is truncated or corrupt: its header gives the shape {tuple(shape)}, "
            f"but {at_least}{len(content)} bytes follow. Delete it and load again."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy()).reshape(shape)


def ring(num_rows: int, num_modes: int = 8, radius: float = 1.0, scale: float = 0.01) -> GaussianMixture:
    """Gaussians evenly spaced on a circle, the first at angle 0.

    Args:
        num_rows: The number of points, drawn with torch's random state.
        num_modes: The number of Gaussians.
        radius: The circle's radius.
        scale: Each Gaussian's standard deviation along each axis.

    Returns:
        The points, their modes, and the modes' centers.

    Example:
        >>> ring(1000, num_modes=4).centers.round().abs().tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]

    References:
        Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1 (whose settings are the defaults).
    """
    num_rows, num_modes = positive_integer("num_rows", num_rows), positive_integer("num_modes", num_modes)
    angles = torch.arange(num_modes) * (2 * math.pi / num_modes)
    return _mixture(radius * torch.stack([angles.cos(), angles.sin()], 1), scale, num_rows)


def grid(num_rows: int, num_modes_a_side: int = 5, spacing: float = 2.0, scale: float = 0.05) -> GaussianMixture:
    """Gaussians on a square grid around the origin.

    Args:
        num_rows: The number of points, drawn with torch's random state.
        num_modes_a_side: The number of Gaussians along each axis.
        spacing: The distance between neighbours.
        scale: Each Gaussian's standard deviation along each axis.

    Returns:
        The points, their modes, and the modes' centers.

    Example:
        >>> grid(1000).centers.unique().tolist()
        [-4.0, -2.0, 0.0, 2.0, 4.0]

    References:
        Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1 (whose settings are the defaults).
    """
    num_rows = positive_integer("num_rows", num_rows)
    num_modes_a_side = positive_integer("num_modes_a_side", num_modes_a_side)
    ticks = spacing * (torch.arange(num_modes_a_side) - (num_modes_a_side - 1) / 2)
    return _mixture(torch.cartesian_prod(ticks, ticks), scale, num_rows)


def _mixture(centers: Tensor, scale: float, num_rows: int) -> GaussianMixture:
    labels = torch.randint(len(centers), (num_rows,))
    return GaussianMixture(centers[labels] + scale * torch.randn(num_rows, 2), labels, centers, scale)


def _check_shape(shape: str) -> None:
    if shape not in ("flat", "image"):
        raise ValueError(f"shape must be 'flat' or 'image', but is {shown(shape)}.")


def _laid_out(images: Tensor, shape: Shape) -> Tensor:
    """Images with shape `(num_rows, height, width)` as vectors, or with a channel."""
    return images.flatten(1) if shape == "flat" else images.unsqueeze(1)


def _labelled(images: Tensor, labels: Tensor, folder: Path, shape: Shape) -> LabelledImages:
    if labels.dim() == 1 and len(labels) and labels.max() > 9:
        raise ValueError(
            f"the MNIST labels in {folder} are corrupt: one is {labels.max()}. Delete them and load again."
        )
    if images.dim() != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"the MNIST files in {folder} do not belong together: images of shape {tuple(images.shape)} and labels of "
            f"shape {tuple(labels.shape)}. Delete them and load again."
        )
    return LabelledImages(_laid_out(images, shape), labels.long())


def _mnist_folder() -> Path:
    if "PYRO_GAN_DATA" in os.environ:
        return Path(os.environ["PYRO_GAN_DATA"]) / "mnist"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pyro_gan" / "mnist"


def _find(folder: Path, name: str, download: bool) -> Path:
    """The path of a file as it is or gzipped, downloaded where it is missing."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    if not download:
        raise FileNotFoundError(
            f"{name} (or {name}.gz) is not in {folder}. Pass root= the folder of the MNIST files, or download=True."
        )
    return _download(folder, f"{name}.gz", MNIST_FILES[name])


def _download(folder: Path, name: str, md5: str) -> Path:
    try:
        import pooch
        import requests
    except ImportError:
        raise ImportError("downloading MNIST needs pooch. Install pyro_gan[examples], or pass root=.") from None
    failures = []
    for mirror in MNIST_MIRRORS:
        try:
            return Path(pooch.retrieve(mirror + name, f"md5:{md5}", fname=name, path=folder))
        except (OSError, ValueError, requests.exceptions.RequestException) as error:
            failures.append(f"{mirror}: {error}")
    raise FileNotFoundError(
        f"{name} is not in {folder} and no mirror gave it. Download it by hand and pass root=. " + "; ".join(failures)
    )
