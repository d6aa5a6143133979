"""Archives opened without trust: no member of a zip or tar file leaves the folder, lies about its size, or bombs.

    extract("set.tar.gz", folder)             all regular files, into a new folder, or nothing at all
    read("set.zip", ["train.csv"])            some members, in memory
    gunzip("images.gz")                       one compressed file, in memory

A member is refused, and with it the archive, if its name is absolute or climbs with `..`, if it is a link, a device or
anything else that is not a plain file or folder, if its name comes twice (in any case: Windows and macOS do not tell
`A` from `a`), or if it is encrypted. What is unpacked is counted as it comes, not as the header claims: an archive may
grow `RATIO`-fold (past a small allowance) and to `LARGEST` bytes.
"""

import os
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..errors import DataError

RATIO = 200  # text and sparse images reach 115; a bomb starts at 1000
ALLOWANCE = 1 << 24  # bytes any archive may unpack to, whatever the ratio
LARGEST = 8 << 30  # bytes in all
MEMBERS = 1_000_000
BLOCK = 1 << 16


def extract(archive, folder):
    """Unpack a zip or tar file (plain, gz, bz2 or xz) into `folder`, which must not exist or be empty.

    Unpacks beside the folder and renames at the end, so that the folder is whole or not there. Files get the user's
    ordinary permissions, whatever the archive says. Returns the folder's path. Raises DataError.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"extract: {folder} is there already\n  give a new folder, or delete this one first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir()
        for name, body in members(archive):
            target = staging.joinpath(*name.split("/"))
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as file:
                    for block in body:
                        file.write(block)
            except OSError as problem:
                raise DataError(f"{archive}: member {name!r} cannot be written: {problem.strerror}") from None
        if folder.exists():
            folder.rmdir()
        os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def read(archive, names):
    """The members of `archive` called `names`, as {name: bytes}. Raises DataError if one is not there."""
    wanted, found = set(names), {}
    for name, body in members(archive):
        if name in wanted:
            found[name] = b"".join(body)
    if wanted - set(found):
        raise DataError(f"{archive}: it has no member {sorted(wanted - set(found))[0]!r}")
    return found


def gunzip(path):
    """What the gzip file at `path` holds, as bytes. Raises DataError, for a bomb too."""
    import gzip
    import zlib

    budget = _Budget(path)
    try:
        if budget.size == 0:
            raise EOFError("it is empty")
        with gzip.open(path) as file:
            return b"".join(budget.blocks(file))
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path}: it is not a whole gzip file ({problem})") from None


def members(archive):
    """(name, blocks of bytes) for each regular file in `archive`, in its order. Take each body before the next member.

    The names are relative, with forward slashes, and safe to join to a folder.
    """
    import zipfile

    with _one_error(archive):
        walk = _zip_members if zipfile.is_zipfile(archive) else _tar_members
        for name, body in walk(Path(archive)):
            yield name, _body(archive, body)


def _body(archive, blocks):
    with _one_error(archive):
        yield from blocks


@contextmanager
def _one_error(archive):
    """Whatever the readers of zip, tar, gzip, bzip2 and xz raise on a damaged file, as a DataError that names it."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as problem:  # some twelve kinds, a few of them undocumented
        raise DataError(f"{archive}: it is not a whole zip or tar file ({problem})") from None


def _zip_members(path):
    import stat
    import zipfile

    budget, names = _Budget(path), _Names(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                names.refuse(info.filename, "is a link or a device")
            if info.flag_bits & 1:
                names.refuse(info.filename, "is encrypted")
            # ZipInfo cuts the name at a NUL and turns the system's separator into "/": judge what the file really says
            name = names.checked(info.orig_filename, folder=info.is_dir())
            if not info.is_dir():
                with archive.open(info) as body:
                    yield name, budget.blocks(body)


def _tar_members(path):
    import tarfile

    budget, names = _Budget(path), _Names(path)
    with _decompressed(path) as plain, tarfile.open(fileobj=_Metered(plain, budget), mode="r|") as archive:
        for info in archive:
            if info.issparse() or not (info.isreg() or info.isdir()):
                names.refuse(info.name, "is a link, a device or another special file")
            name = names.checked(info.name, folder=info.isdir())
            if info.isreg():
                body = archive.extractfile(info)
                yield name, iter(partial(body.read, BLOCK), b"")


@contextmanager
def _decompressed(path):
    """The file at `path` opened through the decompressor that its first bytes ask for."""
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        from gzip import open as opener
    elif head.startswith(b"BZh"):
        from bz2 import open as opener
    elif head.startswith(b"\xfd7zXZ\x00"):
        from lzma import open as opener
    else:
        opener = open
    with opener(path, "rb") as plain:
        yield plain


class _Budget:
    """How many bytes may still come out of one archive."""

    def __init__(self, path):
        self.path = path
        self.size = Path(path).stat().st_size
        self.limit = min(LARGEST, max(ALLOWANCE, RATIO * self.size))
        self.left = self.limit

    def spend(self, count):
        self.left -= count
        if self.left < 0:
            raise DataError(
                f"{self.path}: {self.size:,} bytes that unpack to more than {self.limit:,}: a bomb, not data"
            )

    def blocks(self, body):
        while block := body.read(BLOCK):
            self.spend(len(block))
            yield block


class _Metered:
    """A file whose reading is paid from a budget. tarfile reads headers of any claimed length through it."""

    def __init__(self, file, budget):
        self.file, self.budget = file, budget

    def read(self, count):
        block = self.file.read(count)
        self.budget.spend(len(block))
        return block


class _Names:
    """The names seen so far in one archive, and the rules that a name must meet."""

    def __init__(self, path):
        self.path = path
        self.files, self.folders = set(), set()

    def refuse(self, name, why):
        raise DataError(f"{self.path}: member {name!r} {why}: nothing of this archive is unpacked")

    def checked(self, name, folder):
        """`name` without a leading "./" and a folder's final "/". Raises DataError for a name that is not safe."""
        parts = [part for part in name.rstrip("/").split("/") if part != "."] if folder else name.split("/")
        if parts[:1] == ["."]:
            parts = parts[1:]
        if name.startswith("/") or "\\" in name or ":" in name:
            self.refuse(name, "has an absolute path, or one of another system")
        if any(part in ("", "..") for part in parts) or (not parts and not folder):
            self.refuse(name, "climbs out of the folder, or has an empty name")
        if any(ord(letter) < 32 for letter in name) or any(len(part.encode()) > 255 for part in parts):
            self.refuse(name[:40], "has a name that no file can have")
        key = "/".join(parts).casefold()
        above = {"/".join(parts[:i]).casefold() for i in range(1, len(parts))}
        if key in self.files or (not folder and key in self.folders) or above & self.files:
            self.refuse(name, "comes twice")
        (self.folders if folder else self.files).add(key)
        self.folders |= above
        if len(self.files) + len(self.folders) > MEMBERS:
            self.refuse(name, f"is one of more than {MEMBERS:,}")
        return "/".join(parts)
