"""Files: written whole or not at all, checked before any work starts, or found in an installed package."""

from __future__ import annotations

import importlib.util
import os
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vortex.errors import InputError


def check_output_path(path: Path, suffixes: tuple[str, ...], what: str) -> None:
    """Raise InputError if no file, called ``what`` in messages, can be written at ``path``.

    It must have one of ``suffixes`` (lower case), be no folder, and have a parent folder that is writable.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{what} '{path}' does not end in {' or '.join(suffixes)}. Change the name.")
    if os.path.isdir(path):
        raise InputError(f"{what} '{path}' is a folder. Give the name of a file to write.")
    folder = path.parent
    if not os.path.isdir(folder):
        raise InputError(f"The folder '{folder}' does not exist. Create it first, or write elsewhere.")
    try:
        # Permission bits do not tell: root ignores them, and a disk may be full or read-only.
        with tempfile.TemporaryFile(dir=folder), suppress(FileNotFoundError):
            os.stat(path)  # fails if the name is too long
    except OSError as exc:
        raise InputError(f"{what} '{path}' cannot be written ({exc.strerror}). Write elsewhere.") from exc


def check_new_file(path: Path, what: str, *, force: bool, inputs: Iterable[object] = ()) -> None:
    """Raise InputError if writing ``path`` would replace one of ``inputs``, or without ``force`` any file.

    Inputs that are not paths are left out; ``what`` names the file in messages. Whether a file can be written
    there tells :func:`check_output_path`.
    """
    for source in inputs:
        if isinstance(source, str | os.PathLike) and os.path.realpath(source) == os.path.realpath(path):
            raise InputError(f"{what} '{path}' is an input, too, which would be lost. Write elsewhere.")
    if not os.path.lexists(path) or os.path.isdir(path):
        return
    if not os.path.isfile(path):
        raise InputError(f"{what} '{path}' is there, and is no regular file. Write elsewhere.")
    if not force:
        raise InputError(f"{what} '{path}' is there already. Write elsewhere, or set force to replace it.")


def check_input_file(path: Path, what: str, give: str, error: type[InputError] = InputError) -> None:
    """Raise ``error`` if there is no file to read at ``path``, called ``what`` in messages.

    Only regular files are read: a pipe or a device may never end. ``give`` says what is accepted.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            with open(path, "rb"):
                return
        problem = "is a folder" if stat.S_ISDIR(mode) else "is no regular file"
    except (FileNotFoundError, NotADirectoryError):
        problem = "does not exist"
    except OSError as exc:
        problem = f"cannot be read ({exc.strerror})"
    except ValueError:  # a NUL in it
        problem = "is not a possible file name"
    raise error(f"{what} {problem}. Give {give}.")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; its content gets the name ``path`` when the block ends without an error.

    On Linux the content has no name until then (``O_TMPFILE``), so even a killed process leaves nothing; only
    where it replaces a file, it has a hidden name for a moment. Where the file system has no such files, the
    content has a hidden name in the same folder, which is removed on any error. An OSError is raised if the
    file cannot be created or renamed.
    """
    # The longest legal file name leaves no room for a suffix, so the hidden name is not made from it.
    hidden = path.with_name(f".vortex-{os.getpid()}-{threading.get_ident()}.part")
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (OSError, AttributeError):
        descriptor = None
    try:
        if descriptor is None:
            yield hidden
            os.replace(hidden, path)
        else:
            unnamed = Path(f"/proc/self/fd/{descriptor}")
            yield unnamed
            try:
                _name(descriptor, unnamed, path)
            except FileExistsError:
                hidden.unlink(missing_ok=True)
                _name(descriptor, unnamed, hidden)
                os.replace(hidden, path)
    finally:
        if descriptor is not None:
            os.close(descriptor)
        hidden.unlink(missing_ok=True)


def _name(descriptor: int, unnamed: Path, path: Path) -> None:
    # Python calls linkat(), which follows the link in /proc, only if src_dir_fd is given.
    os.link(unnamed, path, src_dir_fd=descriptor, follow_symlinks=True)


def write_whole(path: Path, text: str) -> None:
    """Write a UTF-8 text file as :func:`whole_file` does."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def package_file(package: str, name: str) -> Path | None:
    """Return the path of a file of an installed package, which is not imported; None if it is missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / name
    return path if path.is_file() else None
