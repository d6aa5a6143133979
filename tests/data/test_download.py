"""Row 12 of the scorecard: bad downloads. Whatever the server does, nothing wrong reaches the final path."""

import hashlib
import socket
import sys

import pytest

from minigen.data import cache_dir, download
from minigen.errors import ArgumentError, DownloadError

BODY = bytes(range(256)) * 1200  # 300 KB: several blocks
SHA = hashlib.sha256(BODY).hexdigest()


def get(server, path="/file.bin", **options):
    options = {"sha256": SHA, "timeout": 5.0, "retries": 0, "pause": 0.0, "progress": False, **options}
    return download(server.url(path), **options)


def refused(server, because, path="/file.bin", part_left=False, **options):
    """The download fails with one clear sentence, and leaves nothing at the final path."""
    with pytest.raises(DownloadError, match=because) as caught:
        get(server, path, instead="minigen.data.digits()", **options)
    first, *others = str(caught.value).split("\n")
    assert server.url(path) in first and "minigen.data.digits()" in others[-1]
    assert not (cache_dir() / path[1:]).exists()
    assert (cache_dir() / f"{path[1:]}.part").exists() == part_left


def test_a_file_is_fetched_once_and_cached(server):
    server.say("/file.bin", BODY)
    path = get(server)
    assert path == cache_dir() / "file.bin" and path.read_bytes() == BODY
    assert get(server) == path and len(server.requests) == 1
    assert [p.name for p in cache_dir().iterdir()] == ["file.bin"]


def test_md5_alone_is_enough_and_sha256_wins(server):
    server.say("/file.bin", BODY)
    assert get(server, sha256=None, md5=hashlib.md5(BODY).hexdigest().upper()).exists()
    server.say("/other.bin", BODY)
    refused(server, "its sha256", "/other.bin", sha256="0" * 64, md5=hashlib.md5(BODY).hexdigest())


def test_a_damaged_cached_file_is_fetched_again(server):
    server.say("/file.bin", BODY)
    path = get(server)
    path.write_bytes(BODY[:-1] + b"!")
    assert get(server).read_bytes() == BODY and len(server.requests) == 2


def test_short_body(server):
    server.say("/file.bin", BODY[:1000], promised=len(BODY))
    refused(server, r"closed after 1,000 of 307,200 bytes", part_left=True)


def test_wrong_hash(server):
    server.say("/file.bin", BODY[:-1] + b"!")
    refused(server, "its sha256 is .* is expected")


def test_404(server):
    server.say("/file.bin", b"not here", status=404)
    refused(server, "answered 404", retries=3)
    assert len(server.requests) == 1  # it would not help to ask again


def test_a_passing_fault_is_tried_again(server):
    server.say("/file.bin", [503, 500, BODY])
    assert get(server, retries=2).read_bytes() == BODY
    server.say("/other.bin", [503])
    refused(server, r"answered 503 .*\(3 tries\)", "/other.bin", retries=2)


def test_a_redirect_is_followed(server):
    server.say("/file.bin", status=302, headers={"Location": "/real"})
    server.say("/real", BODY)
    assert get(server).read_bytes() == BODY


def test_redirects_in_a_circle(server):
    server.say("/file.bin", status=302, headers={"Location": "/file.bin"})
    refused(server, "redirects in a circle")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_elsewhere_is_refused(server, status, target):
    server.say("/file.bin", status=status, headers={"Location": target})
    refused(server, "neither http nor https")


def test_a_stall(server):
    server.say("/file.bin", BODY, pause=(100_000, 1.0))
    refused(server, "stalled", timeout=0.2, part_left=True)


def test_a_stall_before_the_first_byte(server):
    server.say("/file.bin", BODY, pause=(0, 1.0))
    refused(server, "stalled|did not answer", timeout=0.2, part_left=True)


def test_a_dripping_server_is_a_stall(server):
    server.drip("/file.bin", 40, 0.05)
    refused(server, "stalled: .* bytes came in", timeout=0.3, part_left=True)


def test_wrong_length(server):
    server.say("/file.bin", BODY)
    refused(server, "offers 307,200 bytes where 400,000 are expected", size=400_000)


def test_more_than_promised(server):
    def endless(request):
        request.send_response(200)  # no Content-Length: until the connection closes
        request.end_headers()
        request.wfile.write(BODY + b"more")

    server.answers["/file.bin"] = endless
    refused(server, "sends more than the 307,200 bytes", size=len(BODY), part_left=True)


def test_resume(server):
    server.say("/file.bin", BODY, ranges=True)
    cache_dir().mkdir()
    (cache_dir() / "file.bin.part").write_bytes(BODY[:100_001])
    assert get(server).read_bytes() == BODY
    assert server.requests == [("/file.bin", "bytes=100001-")]


def test_resume_after_a_cut_within_one_call(server):
    server.say("/file.bin", BODY[:5000], promised=len(BODY))
    whole = server.answers["/file.bin"]

    def first_cut_then_whole(request):
        whole(request)
        server.say("/file.bin", BODY, ranges=True)

    server.answers["/file.bin"] = first_cut_then_whole
    assert get(server, retries=1).read_bytes() == BODY
    assert server.requests[-1] == ("/file.bin", "bytes=5000-")


def test_resume_where_the_server_starts_again(server):
    server.say("/file.bin", BODY)  # heeds no Range
    cache_dir().mkdir()
    (cache_dir() / "file.bin.part").write_bytes(b"x" * 5000)
    assert get(server).read_bytes() == BODY


def test_resume_of_a_part_that_was_whole(server):
    server.say("/file.bin", BODY, ranges=True)
    cache_dir().mkdir()
    (cache_dir() / "file.bin.part").write_bytes(BODY)
    assert get(server).read_bytes() == BODY


@pytest.mark.parametrize("length", [5000, len(BODY), len(BODY) + 5000])
def test_resume_of_another_files_part_starts_again(server, length):
    server.say("/file.bin", BODY, ranges=True)
    cache_dir().mkdir()
    (cache_dir() / "file.bin.part").write_bytes(b"x" * length)
    assert get(server, retries=1).read_bytes() == BODY


def test_a_server_that_resumes_elsewhere(server):
    server.say("/file.bin", BODY[7:], status=206, headers={"Content-Range": f"bytes 7-{len(BODY) - 1}/{len(BODY)}"})
    cache_dir().mkdir()
    (cache_dir() / "file.bin.part").write_bytes(BODY[:5000])
    refused(server, "asked for bytes from 5,000 on and sends others", part_left=True)


def test_a_mirror_is_tried_next(server):
    server.say("/file.bin", status=404)
    server.say("/mirror.bin", BODY)
    urls = [server.url("/file.bin"), server.url("/mirror.bin")]
    assert download(urls, sha256=SHA, retries=0, progress=False).read_bytes() == BODY
    server.say("/mirror.bin", status=410)
    with pytest.raises(DownloadError, match=r"(?s)file\.bin.*404.*mirror\.bin.*410"):
        download(urls, sha256="0" * 64, retries=0, progress=False)


def test_no_network(monkeypatch):
    def nowhere(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(DownloadError, match="there is no network") as caught:
        download("https://example.org/set.gz", sha256=SHA, instead="the bundled digits")
    assert str(caught.value).endswith("without the network: the bundled digits")


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.bin"
    with pytest.raises(DownloadError, match="cannot be reached"):
        download(url, sha256=SHA)


def test_a_disk_that_cannot_be_written(server, private_cache):
    server.say("/file.bin", BODY)
    private_cache.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match="could not be written"):
        get(server)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/x", "names.txt", ""])
def test_other_addresses_are_refused(url):
    with pytest.raises(ArgumentError, match="http"):
        download(url, sha256=SHA)


def test_nothing_is_fetched_unchecked(server):
    with pytest.raises(ArgumentError, match="unchecked"):
        download(server.url("/file.bin"))
    assert server.requests == []


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGEN_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "minigen"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_dir() == tmp_path / "minigen" / "Cache"
