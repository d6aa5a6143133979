"""Row 13 of the scorecard: hostile archives. Nothing appears outside the folder; a bad archive unpacks to nothing."""

import contextlib
import gzip
import io
import stat
import tarfile
import zipfile

import pytest

from minigen.data import archive
from minigen.data.archive import extract, gunzip, read
from minigen.errors import DataError


def make_zip(path, *entries, compression=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, body in entries:
            file.writestr(name, body)
    return path


def make_tar(path, *entries):
    """A tar of (name, bytes) or (name, type, link target); gz if the name says so."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for name, body, *target in entries:
            info = tarfile.TarInfo(name)
            if isinstance(body, bytes) and not target and body not in SPECIAL:
                info.size = len(body)
                file.addfile(info, io.BytesIO(body))
            else:
                info.type, info.linkname = body, target[0] if target else ""
                file.addfile(info)
    return path


SPECIAL = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(tmp_path, file, because):
    """`extract` and `read` both raise, and tmp_path holds the archive alone, as before."""
    before = tree(tmp_path)
    with pytest.raises(DataError, match=because) as caught:
        extract(file, tmp_path / "out")
    assert str(file) in str(caught.value)
    assert tree(tmp_path) == before
    with pytest.raises(DataError):
        read(file, ["ok.txt"])


FILES = [("a.txt", b"first"), ("sub/b.bin", bytes(1000)), ("sub/deep/c.txt", b"")]


def test_bzip2_and_xz(tmp_path):
    for kind in ("bz2", "lzma"):
        compress = pytest.importorskip(kind).compress
        raw = make_tar(tmp_path / "x.tar", *FILES).read_bytes()
        (tmp_path / kind).write_bytes(compress(raw))
        assert read(tmp_path / kind, ["sub/b.bin"]) == {"sub/b.bin": bytes(1000)}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_an_honest_archive(tmp_path, name):
    make = make_zip if name.endswith("zip") else make_tar
    file = make(tmp_path / name, *FILES)
    folder = extract(file, tmp_path / "new" / "out")
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == dict(FILES)
    assert read(file, ["sub/b.bin", "a.txt"]) == {"a.txt": b"first", "sub/b.bin": bytes(1000)}
    with pytest.raises(DataError, match=r"no member 'c\.txt'"):
        read(file, ["c.txt"])


def test_folders_and_leading_dots(tmp_path):
    file = make_tar(tmp_path / "x.tar", ("./", tarfile.DIRTYPE), ("./sub", tarfile.DIRTYPE), ("./sub/a.txt", b"a"))
    assert tree(extract(file, tmp_path / "out")) == ["sub", "sub/a.txt"]


def test_permissions_are_ordinary(tmp_path):
    info = tarfile.TarInfo("run.sh")
    info.mode, info.size = 0o4777, 1
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        file.addfile(info, io.BytesIO(b"x"))
    mode = (extract(tmp_path / "x.tar", tmp_path / "out") / "run.sh").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_IXUSR)


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    file = make_zip(tmp_path / "x.zip", *FILES)
    (tmp_path / "out").mkdir()
    extract(file, tmp_path / "out")  # empty: fine
    with pytest.raises(DataError, match="is there already"):
        extract(file, tmp_path / "out")


BAD_NAMES = [
    "../evil.txt",
    "sub/../../evil.txt",
    "/etc/evil.txt",
    "//host/evil.txt",
    "..\\evil.txt",
    "C:\\evil.txt",
    "C:evil.txt",
    "sub//evil.txt",
    "evil\n.txt",
    "..",
    "e" * 300,
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: name[:20])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_bad_names(tmp_path, make, name):
    file = make(tmp_path / ("x.zip" if make is make_zip else "x.tar"), ("ok.txt", b"ok"), (name, b"evil"))
    refused(tmp_path, file, "absolute|climbs|no file can have")


def test_a_zip_name_with_a_zero_byte(tmp_path):
    """ZipFile cuts the name at the zero byte; what the file says is judged."""
    file = make_zip(tmp_path / "x.zip", ("ok.txtQ../evil", b"evil"))
    file.write_bytes(file.read_bytes().replace(b"ok.txtQ", b"ok.txt\0"))
    refused(tmp_path, file, "climbs|no file can have")


@pytest.mark.parametrize("kind", SPECIAL[:-1])
def test_tar_links_and_devices(tmp_path, kind):
    file = make_tar(tmp_path / "x.tar", ("ok.txt", b"ok"), ("evil", kind, "../outside"), ("evil/x", b"x"))
    refused(tmp_path, file, "is a link, a device")


def test_zip_links(tmp_path):
    info = zipfile.ZipInfo("evil")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(tmp_path, make_zip(tmp_path / "x.zip", (info, "/etc")), "is a link")


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "A"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("s/a", "S/A")], ids="|".join
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates(tmp_path, make, names):
    file = make(tmp_path / ("x.zip" if make is make_zip else "x.tar"), *((name, b"x") for name in names))
    refused(tmp_path, file, "comes twice")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_bombs(tmp_path, name, monkeypatch):
    monkeypatch.setattr(archive, "ALLOWANCE", 1 << 16)
    make = make_zip if name.endswith("zip") else make_tar
    refused(tmp_path, make(tmp_path / name, ("ok.txt", bytes(20 << 20))), "a bomb")


def test_a_bomb_of_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ALLOWANCE", 1 << 16)
    file = make_zip(tmp_path / "x.zip", *((f"{i}", bytes(1 << 20)) for i in range(20)))
    refused(tmp_path, file, "a bomb")


def test_a_bomb_that_lies_about_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ALLOWANCE", 1 << 16)
    file = make_zip(tmp_path / "x.zip", ("ok.txt", bytes(20 << 20)))
    honest = (20 << 20).to_bytes(4, "little")
    file.write_bytes(file.read_bytes().replace(honest, (100).to_bytes(4, "little")))
    refused(tmp_path, file, "bomb|not a whole")


def test_a_bomb_in_a_tar_header(tmp_path, monkeypatch):
    """A PAX header is read into memory in full: 20 MB of them from 20 KB."""
    monkeypatch.setattr(archive, "ALLOWANCE", 1 << 16)
    info = tarfile.TarInfo("ok.txt")
    info.pax_headers = {"comment": "x" * (20 << 20)}
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info)
    refused(tmp_path, tmp_path / "x.tar.gz", "a bomb")


def test_the_limit_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "LARGEST", 1000)
    file = make_zip(tmp_path / "x.zip", ("ok.txt", bytes(2000)), compression=zipfile.ZIP_STORED)
    refused(tmp_path, file, "more than 1,000")


def test_encrypted(tmp_path):
    file = make_zip(tmp_path / "x.zip", ("ok.txt", b"ok"))
    raw = bytearray(file.read_bytes())
    raw[6] |= 1
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(raw)
    refused(tmp_path, file, "is encrypted")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_every_truncation_is_an_ordinary_error(tmp_path, name):
    make = make_zip if name.endswith("zip") else make_tar
    raw = make(tmp_path / name, *FILES).read_bytes()
    whole = raw.rstrip(b"\0") if name.endswith("tar") else raw  # a tar ends in zeros that nobody needs
    for length in range(0, len(whole) - 8, max(1, len(whole) // 60)):
        (tmp_path / "cut").write_bytes(raw[:length])
        try:
            found = read(tmp_path / "cut", [name for name, _ in FILES])
        except DataError:
            continue
        assert found == dict(FILES), length


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_flipped_bytes_are_an_ordinary_error_or_harmless(tmp_path, name):
    make = make_zip if name.endswith("zip") else make_tar
    raw = make(tmp_path / name, *FILES).read_bytes()
    for place in range(0, len(raw), max(1, len(raw) // 200)):
        bad = bytearray(raw)
        bad[place] ^= 0xFF
        (tmp_path / "bad").write_bytes(bad)
        with contextlib.suppress(DataError):
            read(tmp_path / "bad", ["a.txt"])


def test_gunzip(tmp_path, monkeypatch):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text" * 1000))
    assert gunzip(tmp_path / "a.gz") == b"text" * 1000
    monkeypatch.setattr(archive, "ALLOWANCE", 1 << 16)
    (tmp_path / "b.gz").write_bytes(gzip.compress(bytes(20 << 20)))
    with pytest.raises(DataError, match="a bomb"):
        gunzip(tmp_path / "b.gz")
    for bad in (b"", b"no gzip", gzip.compress(b"text" * 1000)[:-9]):
        (tmp_path / "c.gz").write_bytes(bad)
        with pytest.raises(DataError, match="not a whole gzip file"):
            gunzip(tmp_path / "c.gz")


def test_the_plain_way_would_climb(tmp_path):
    """The control: Python's own tar reader, told to trust, does write outside; so the tests above can fail."""
    file = make_tar(tmp_path / "x.tar", ("../evil.txt", b"evil"))
    (tmp_path / "out").mkdir()
    with tarfile.open(file) as trusting:
        trusting.extract("../evil.txt", tmp_path / "out", filter="fully_trusted")
    assert (tmp_path / "evil.txt").exists()
