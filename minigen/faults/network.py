"""Row 11: no network. No socket leaves this machine; what wants one says so in a sentence and offers what is here."""

import subprocess
import sys

from .score import Finding

_GUARDED = """
import socket, sys

def refuse(*args, **kwargs):
    raise AssertionError(f"the network was asked for: {args[1:]}")

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = lambda *args, **kwargs: (_ for _ in ()).throw(OSError(-2, "Name or service not known"))
"""

_TRAINING = """
from minigen.faults import small
from minigen.data import digits
small.train(3)
digits()
"""

_DOWNLOAD = """
import sys, tempfile
from minigen.data.download import download
from minigen.errors import DownloadError
try:
    download("https://example.invalid/x.gz", sha256="0" * 64, folder=tempfile.mkdtemp(), instead="the bundled digits",
             retries=1, pause=0, progress=False)
except DownloadError as error:
    print(error)
"""


def no_connection(count=None, seed=0):
    """Training and the bundled data with every socket shut; a download, which must end in a sentence."""
    done = subprocess.run([sys.executable, "-c", _GUARDED + _TRAINING], capture_output=True, text=True)
    if done.returncode:
        return Finding(False, f"training: {done.stderr.strip()[-300:]}")
    done = subprocess.run([sys.executable, "-c", _GUARDED + _DOWNLOAD], capture_output=True, text=True, timeout=120)
    if done.returncode or "the bundled digits" not in done.stdout:
        return Finding(False, f"a download without a network: {(done.stdout + done.stderr).strip()[-300:]}")
    return Finding(True, "training and bundled data without a socket; a download says so and offers what is here")
