"""States in files: written whole or not at all, read only where they are what was written.

A file is a line that names its format, a line with the SHA-256 of what follows, and a state as `torch.save` writes it.
It is written beside the old one, flushed to the disk, and takes its place in one step, so that whenever a process ends
there is the old file or the new one. A file that has changed since is refused before any of it is read; of what is read
nothing is ever run (`weights_only=True`).
"""

import hashlib
import io
import os
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from pyro_gan.checks import positive_integer, shown

FORMAT = b"pyro_gan state 1\n"
"""The first line of a file; its number changes where an older version could not read what follows."""

DIGITS = 64


def write_file(path: str | PathLike[str], content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dictionaries to a file, whole or not at all.

    Args:
        path: The file; one that is there is replaced in one step.
        content: What to write.
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(FORMAT)
            file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n")
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _flush_folder(path.parent)


def read_file(path: str | PathLike[str]) -> dict[str, Any]:
    """Read what :func:`write_file` wrote, onto the host.

    Raises:
        ValueError: It is another file, of another version, or has changed since.
        OSError: It can not be read.
    """
    if Path(path).is_dir():
        raise ValueError(f"{str(path)!r} is a folder. Pass one of its files, or the folder as checkpoint= to run.")
    with Path(path).open("rb") as file:
        first = file.read(len(FORMAT))
        if first != FORMAT:
            raise ValueError(_other_file(path, first))
        digest, payload = file.read(DIGITS + 1), file.read()
    if digest != hashlib.sha256(payload).hexdigest().encode() + b"\n":
        raise ValueError(
            f"{str(path)!r} is damaged: it does not have the checksum that it was written with. Use another checkpoint."
        )
    try:
        with warnings.catch_warnings():  # of what an error tells, or of pickles that torch.save does not write
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle that torch.save did not write raises whatever its reader stumbles over
        raise ValueError(
            f"{str(path)!r} holds no state: {type(error).__name__}. Pass a file that save wrote."
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds no state, but a {type(content).__name__}. Pass a file that save wrote.")
    return content


def _other_file(path: str | PathLike[str], first: bytes) -> str:
    if not first:
        return f"{str(path)!r} is empty. Pass a file that save wrote."
    if first.startswith(FORMAT.rstrip(b"1\n")):
        return f"{str(path)!r} was written by another version of pyro_gan. Read it with that version."
    if first.startswith(b"PK"):
        return (
            f"{str(path)!r} was written by torch.save, or by save of an older version. Pass a file that save wrote; "
            "for a state of this version use load_state_dict(torch.load(path, weights_only=True))."
        )
    return f"{str(path)!r} is no file that save wrote. Pass one."


def _flush_folder(folder: Path) -> None:
    """See that the disk knows the new name; where a system has no such call, it does so by itself."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class Folder:
    """A folder of checkpoints, of which the newest are kept.

    Args:
        path: The folder; it is made if missing.
        keep: How many to keep.

    Raises:
        TypeError, ValueError: `path` is no path, or `keep` no positive integer.
    """

    def __init__(self, path: str | PathLike[str], keep: int) -> None:
        if not isinstance(path, str | PathLike):
            raise TypeError(f"checkpoint must be a folder's path, but is {shown(path)} ({type(path).__name__}).")
        if not str(path):
            raise ValueError("checkpoint must be a folder's path, but is ''. Name a folder.")
        self.path = Path(path).resolve()
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"checkpoint={str(path)!r} is a file, but a folder is expected. Name another.")
        self.keep = positive_integer("keep", keep)
        self._has_failed = False

    def files(self) -> list[Path]:
        """The checkpoints, the newest last."""
        return sorted(self.path.glob("step-*.state"))

    def newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that is what was written, or `None`; of damaged ones a warning tells."""
        for path in reversed(self.files()):
            try:
                return read_file(path)
            except (ValueError, OSError) as error:
                warnings.warn(f"a checkpoint is left out: {error}", RuntimeWarning, stacklevel=2)
        return None

    def write(self, content: dict[str, Any], step: int) -> None:
        """Write a checkpoint, and let go of the oldest. Where a disk fails, the run goes on, and a warning tells once.

        Args:
            content: What to write.
            step: The number of the step, by which the file is named.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            written = self.path / f"step-{step:09d}.state"
            write_file(written, content)
            others = [path for path in self.files() if path != written]
            for path in others[: max(0, len(others) - self.keep + 1)]:
                path.unlink(missing_ok=True)
            for path in self.path.glob(".step-*.part"):  # of a process that was killed while writing
                path.unlink(missing_ok=True)
        except OSError as error:
            if not self._has_failed:
                text = f"no checkpoint could be written at step {step}, the run goes on: {error!r}."
                warnings.warn(text, RuntimeWarning, stacklevel=2)
            self._has_failed = True
