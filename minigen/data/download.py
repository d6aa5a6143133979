"""Downloads that are what they should be: checked, resumed, cached, and given up with one sentence.

    path = download("https://host/names.txt", sha256="0a30b5...")

A file appears in the cache only after its hash was found right; until then the bytes stand beside it in `NAME.part`,
and a later call continues from there. Whatever goes wrong is a DownloadError that says what, and what to use instead.
"""

import hashlib
import os
import sys
import time
from pathlib import Path

from ..errors import ArgumentError, DownloadError, expect

LARGEST = 8 << 30  # bytes accepted where the size is not known beforehand
BLOCK = 1 << 16
SLOWEST = 1024  # bytes that must arrive in every `timeout` seconds: a server that drips is as good as silent


def cache_dir():
    """The folder of downloaded files: $MINIGEN_CACHE, or `minigen` in the platform's folder for caches."""
    if os.environ.get("MINIGEN_CACHE"):
        return Path(os.environ["MINIGEN_CACHE"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "minigen" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "minigen"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigen"


def download(
    url,
    *,
    sha256=None,
    md5=None,
    size=None,
    name=None,
    folder=None,
    instead=None,
    timeout=30.0,
    retries=3,
    pause=1.0,
    progress=True,
):
    """Fetch `url` into the cache and return its path; a file that is there with the right hash is not fetched again.

    url      an http or https address, or several that offer the same bytes, tried in turn
    sha256   the file's hash in hexadecimal; `md5` for old sets whose keepers published nothing better. One is needed.
    size     its length in bytes, if known
    name     its name in `folder` (the address's own if None); `folder` is `cache_dir()` if None
    instead  what works without the network, named in the error
    timeout  seconds without an answer, or with less than 1 KiB, after which the server counts as stalled
    retries  how often a fault that may pass (stall, cut, 5xx) is tried again, `pause`, 2 x `pause`... seconds later

    Raises DownloadError.
    """
    urls = [url] if isinstance(url, str) else list(url)
    expect(
        urls and all(_is_http(u) for u in urls),
        "download: an address starts with http:// or https://",
        url,
        error=ArgumentError,
    )
    expect(
        sha256 or md5,
        "download: nothing is fetched unchecked: give sha256= (or md5=), the hash that the file must have",
        url,
        error=ArgumentError,
    )
    promise = _Promise(sha256=sha256, md5=md5, size=size)
    final = Path(folder or cache_dir()) / (name or urls[0].rsplit("/", 1)[-1].split("?")[0])
    part = final.with_name(final.name + ".part")
    try:
        if final.exists() and promise.broken_by(final) is None:
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        problems = []
        for address in urls:
            problem = _try(address, part, promise, timeout, retries, pause, progress)
            if problem is None:
                os.replace(part, final)
                return final
            problems.append(f"{address} could not be fetched: {problem}")
    except OSError as problem:  # the disk: full, read-only, not ours
        problems = [f"{final} could not be written: {problem.strerror or problem}"]
    hint = f"\n  without the network: {instead}" if instead else ""
    raise DownloadError("\n".join(problems) + hint)


class _Promise:
    """What the file must be."""

    def __init__(self, sha256, md5, size):
        self.algorithm = "sha256" if sha256 else "md5"
        self.digest = (sha256 or md5).lower()
        self.size = size

    def broken_by(self, path):
        """None if the file at `path` is what was promised, else a sentence."""
        length = path.stat().st_size
        if self.size is not None and length != self.size:
            return f"it has {length:,} bytes where {self.size:,} are expected"
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, self.algorithm).hexdigest()
        if found != self.digest:
            return f"its {self.algorithm} is {found}, and {self.digest} is expected: it is another file, or damaged"
        return None


class _Passing(Exception):
    """A fault that may be gone at the next try."""


class _Lasting(Exception):
    """A fault that the next try would meet again."""


def _try(url, part, promise, timeout, retries, pause, progress):
    """Fetch `url` into `part`, trying again where that may help. None if it is whole and right, else what is wrong."""
    problem = "no attempt was made"
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        resumed = part.exists() and part.stat().st_size > 0
        try:
            _fetch(url, part, promise, timeout, progress)
        except _Lasting as fault:
            return str(fault)
        except _Passing as fault:
            problem = str(fault)
            continue
        problem = promise.broken_by(part)
        if problem is None:
            return None
        part.unlink()
        if not resumed:  # else the old beginning may have been another file's: once more, from nothing
            return problem
    return f"{problem} ({retries + 1} tries)" if retries else problem


def _fetch(url, part, promise, timeout, progress):
    """Append to `part` what is missing of `url`. Returns when the server has sent all it promised."""
    have = part.stat().st_size if part.exists() else 0
    with _open(url, have, timeout) as answer:
        if answer is None:  # nothing after byte `have`: whole already, or not the beginning of this file
            return
        total = _total_length(answer, have)
        if answer.status != 206:
            have = 0
        if promise.size is not None and total not in (None, promise.size):
            raise _Lasting(f"the server offers {total:,} bytes where {promise.size:,} are expected")
        most = promise.size or total or LARGEST
        with open(part, "ab" if have else "wb") as file, _bar(part.stem, have, total, progress) as bar:
            for block in _blocks(answer, timeout):
                have += len(block)
                if have > most:
                    raise _Lasting(f"the server sends more than the {most:,} bytes expected")
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise _Passing(f"the connection closed after {have:,} of {total:,} bytes")


def _open(url, have, timeout):
    """The server's answer to a request for `url` from byte `have` on; a context manager, of None for an empty rest."""
    import contextlib
    import http.client
    import ssl
    import urllib.error
    import urllib.request

    headers = {"User-Agent": "minigen", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code == 416 and have:
            return contextlib.nullcontext()
        sentence = f"the server answered {fault.code} {fault.reason}"
        if 300 <= fault.code < 400:
            sentence = "it redirects in a circle, or too often"
        raise (_Passing if fault.code in (408, 425, 429) or fault.code >= 500 else _Lasting)(sentence) from None
    except (OSError, http.client.HTTPException, ValueError) as fault:  # ValueError: an address that cannot be one
        reason = getattr(fault, "reason", fault)
        if isinstance(reason, TimeoutError):
            raise _Passing(f"the server did not answer within {timeout:g} seconds") from None
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _Lasting(f"the server's certificate is not trusted ({reason.verify_message})") from None
        if isinstance(reason, (ConnectionResetError, http.client.HTTPException, ssl.SSLError)):
            raise _Passing(f"the connection broke ({reason})") from None
        if isinstance(reason, OSError):
            raise _Lasting(f"there is no network, or the host cannot be reached ({reason})") from None
        raise _Lasting(str(reason)) from None


def _blocks(answer, timeout):
    """The body, block by block; a silent or dripping server raises."""
    import http.client

    clock, came = time.monotonic(), 0
    while True:
        try:
            block = answer.read1(BLOCK)
        except TimeoutError:
            raise _Passing(f"the server stalled: nothing came for {timeout:g} seconds") from None
        except (OSError, http.client.HTTPException) as fault:
            raise _Passing(f"the connection broke ({fault})") from None
        if not block:
            return
        yield block
        came += len(block)
        if time.monotonic() - clock > timeout:
            if came < SLOWEST:
                raise _Passing(f"the server stalled: {came} bytes came in {timeout:g} seconds")
            clock, came = time.monotonic(), 0


def _total_length(answer, have):
    """The length of the whole file as the answer's headers tell it, or None."""
    if answer.status == 206:
        start, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if not start.startswith(f"{have}-"):
            raise _Lasting(
                f"the server was asked for bytes from {have:,} on and sends others ({start or 'it does not say which'})"
            )
        return int(total) if total.isdigit() else None
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _opener():
    """urllib with http and https only: no file:, ftp: or data: address, in the request or in a redirect."""
    import urllib.parse
    import urllib.request as request

    class Redirects(request.HTTPRedirectHandler):
        max_redirections = 5

        def http_error_302(self, req, fp, code, msg, headers):
            target = urllib.parse.urljoin(req.full_url, headers.get("Location") or "")
            if not _is_http(target):
                fp.close()
                raise _Lasting(f"it redirects to {target}, which is neither http nor https")
            return super().http_error_302(req, fp, code, msg, headers)

        http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    opener = request.OpenerDirector()
    handlers = [
        request.ProxyHandler(),
        request.UnknownHandler(),
        request.HTTPHandler(),
        request.HTTPDefaultErrorHandler(),
    ]
    handlers += [Redirects(), request.HTTPErrorProcessor()]
    if hasattr(request, "HTTPSHandler"):  # absent where Python was built without ssl
        handlers.append(request.HTTPSHandler())
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _is_http(url):
    return url.lower().startswith(("http://", "https://"))


def _bar(label, have, total, progress):
    from tqdm import tqdm

    hidden = None if progress else True  # None: shown on a terminal only
    return tqdm(desc=label, initial=have, total=total, unit="B", unit_scale=True, disable=hidden, leave=False)
