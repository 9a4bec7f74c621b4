"""Files that are whole or not there: written under another name, renamed when they are complete."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hybridsim.errors import HybridsimError, InputError
from hybridsim.interrupt import before_end

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ENOMEM)
_unfinished: set[Path] = set()


class DiskFailed(HybridsimError):
    """A file could not be written although its place is one for files: the disk is full or
    broken.
    """


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that takes its name when the block ends: a reader sees the old one or the new
    one, never half of it, whatever stops the writer.

    What is no regular file (a device, a pipe) has no name to take and is written as it is.

    Raises:
        InputError: no file can be written at this place.
        DiskFailed: the disk is full or broken.
    """
    target = _target(Path(path))
    special = target.exists() and not target.is_file()
    opened = target if special else target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        if not special:
            _unfinished.add(opened)
        with opened.open("wb") as file:
            yield file
            file.flush()
            if not special:
                os.fsync(file.fileno())
        if not special:
            os.replace(opened, target)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if not special:
            with contextlib.suppress(OSError):
                opened.unlink(missing_ok=True)
            _unfinished.discard(opened)


def _target(path: Path) -> Path:
    """Where a file of this name ends up: a link stays a link."""
    try:
        target = Path(os.path.realpath(path))
        if not target.is_dir():
            return target
        raise IsADirectoryError(errno.EISDIR, "a folder")
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error


def write_whole(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file as ``whole_file`` does.

    Raises:
        InputError, DiskFailed: as ``whole_file``.
    """
    content = text.encode("utf-8", errors="backslashreplace")  # a lone surrogate has no bytes
    with whole_file(path) as file:
        file.write(content)


def cannot_write(
    path: Path | str, error: OSError | ValueError, what: str = "a file"
) -> HybridsimError:
    """What to raise for what cannot be written: the place is wrong, or the disk is."""
    text = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) in _FULL:
        return DiskFailed(f"{path}: could not be written: {text}")
    return InputError(f"{path}: expected {what} that can be written, got: {text}")


def _discard_unfinished() -> None:
    for path in tuple(_unfinished):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


before_end.append(_discard_unfinished)
