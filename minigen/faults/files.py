"""Row 3: bad checkpoints. Every truncation, and random and spiteful changes, judged against safetensors' own verdict.

A good checkpoint of about 1 KB is damaged in ten ways and read again. What must hold each time:

    one error class   whatever is wrong, CheckpointError says so
    no disagreement   what safetensors refuses is refused; what it accepts gives the same arrays
    no excess         reading takes at most twice the file's memory, however much the header promises
"""

import json
import random
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np

from .. import checkpoint
from ..errors import CheckpointError
from ..tensorfile import read_safetensors
from .score import Finding, scratch

SPARE = 64 * 1024  # what Python and the library take for themselves beside the file


def example(path):
    """Save a small checkpoint with every kind of content at `path`; returns its bytes."""
    rng = np.random.default_rng(0)
    model = {
        "encoder.weight": rng.standard_normal((4, 3)).astype(np.float32),
        "encoder.bias": np.zeros(4, np.float16),
        "steps": np.array(7),
        "mask": np.array([True, False, True]),
        "empty": np.zeros((0, 3), np.float64),
    }
    state = {
        "step": 400,
        "model": model,
        "optimizer": {"state": {0: {"lr": 1e-3}}, "betas": (0.9, 0.999)},
        "note": None,
    }
    checkpoint.save(path, state)
    return Path(path).read_bytes()


def truncations(count=None, seed=0):
    """Read every beginning of the file: none may pass for the whole."""
    with scratch() as folder:
        path = folder / "model.safetensors"
        whole = example(path)
        for n in range(len(whole)):
            put(path, whole[:n])
            try:
                checkpoint.load(path)
            except CheckpointError as error:
                if "cut short" not in str(error):
                    return Finding(False, f"the first {n} of {len(whole)} bytes: {error}")
            else:
                return Finding(False, f"the first {n} of {len(whole)} bytes passed for the whole")
    return Finding(True, f"{len(whole)} truncations, each called cut short")


def mutations(count, seed=0):
    """Damage the file `count` times and compare what is said with what safetensors says."""
    chance = random.Random(seed)
    refused = 0
    with scratch() as folder:
        path = folder / "model.safetensors"
        whole = example(path)
        for i in range(count):
            bad = mutate(whole, chance)
            put(path, bad)
            fault = disagreement(path, measure=i % 50 == 0)
            if fault:
                return Finding(False, f"mutation {i} (seed {seed}): {fault}")
            refused += not checkpoint.is_whole(path)
    return Finding(True, f"{count:,} mutations, {refused:,} refused as safetensors does, no other error")


def put(path, content):
    """A new file: what is written over an old one some file systems send to the disk at once, and wait for it."""
    path.unlink()
    path.write_bytes(content)


def hostile(count=None, seed=0):
    """Files made to hurt: each a header, sound or not, that promises more than there is."""
    with scratch() as folder:
        path = folder / "model.safetensors"
        for name, content in spiteful_files().items():
            path.write_bytes(content)
            fault = disagreement(path, measure=True)
            if fault:
                return Finding(False, f"{name}: {fault}")
    return Finding(True, f"{len(spiteful_files())} hostile files")


def disagreement(path, measure=False):
    """What is wrong with how minigen reads `path`, in words; None if nothing is."""
    theirs = verdict(path)
    size = path.stat().st_size
    if measure:
        tracemalloc.start()
    try:
        with read_safetensors(path) as file:
            ours = dict(file)
    except CheckpointError:
        ours = None
    except BaseException as error:
        return f"read_safetensors raised {type(error).__name__}: {error}"
    finally:
        if measure:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    if measure and peak > 2 * size + SPARE:
        return f"reading {size:,} bytes took {peak:,}"
    if (ours is None) != (theirs is None):
        return f"minigen {'refuses' if ours is None else 'accepts'} what safetensors does not"
    if ours is not None and not _equal(ours, theirs):
        return "minigen and safetensors read different arrays"
    try:
        checkpoint.load(path)
    except CheckpointError:
        return None
    except BaseException as error:
        return f"load raised {type(error).__name__}: {error}"
    return None if ours is not None else "load accepts what safetensors refuses"


def verdict(path):
    """The arrays as the safetensors library reads them; None if it (or NumPy, for its types and shapes) refuses."""
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except Exception:
        return None


def _equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        ours[k].dtype == theirs[k].dtype
        and ours[k].shape == theirs[k].shape
        and ours[k].tobytes() == theirs[k].tobytes()
        for k in ours
    )


# Ways to damage


def mutate(content, chance):
    """A damaged copy of `content`: one to three changes, most of them in the header, where it hurts."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        content = chance.choice(MUTATIONS)(content, chance)
    return content


def _place(content, chance):
    header = 8 + struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    end = header if 0 < header < len(content) and chance.random() < 0.8 else len(content)
    return chance.randrange(max(end, 1))


def _flip_bit(content, chance):
    i = _place(content, chance)
    return content[:i] + bytes([content[i] ^ 1 << chance.randrange(8)]) + content[i + 1 :] if content else content


def _set_byte(content, chance):
    i = _place(content, chance)
    return content[:i] + bytes([chance.choice(b'\0\xff09"{}[],:-. \\')]) + content[i + 1 :]


def _delete(content, chance):
    i = _place(content, chance)
    return content[:i] + content[i + chance.randint(1, 16) :]


def _insert(content, chance):
    i = _place(content, chance)
    return content[:i] + chance.randbytes(chance.randint(1, 16)) + content[i:]


def _repeat(content, chance):
    i = _place(content, chance)
    return content[: i + chance.randint(1, 64)] + content[i:]


def _header_length(content, chance):
    length = struct.unpack("<Q", content[:8].ljust(8, b"\0"))[0]
    length = chance.choice(
        (0, 1, length - 1, length + 1, length + 8, 10**8, 10**8 + 1, 2**31, 2**63, 2**64 - 1, 2**64 - 8)
    )
    return struct.pack("<Q", length % 2**64) + content[8:]


def _number(content, chance):
    """Another number in the place of one in the header."""
    numbers = list(re.finditer(rb"\d+", content[8 : len(content) - 100]))
    if not numbers:
        return content
    old = chance.choice(numbers)
    new = chance.choice(
        (
            b"0",
            b"1",
            b"-1",
            b"1e3",
            b"1.0",
            b"4294967296",
            b"18446744073709551615",
            b"9" * 400,
            b"null",
            b"[]",
        )
    )
    return _resized(content, 8 + old.start(), 8 + old.end(), new, chance)


def _kind(content, chance):
    """Another type, of another size or that does not exist."""
    kinds = list(re.finditer(rb'"(F16|F32|F64|I64|BOOL)"', content))
    if not kinds:
        return content
    old = chance.choice(kinds)
    new = chance.choice((b"F16", b"F32", b"F64", b"BOOL", b"U8", b"C64", b"F128", b"PICKLE", b"\\u0000"))
    return _resized(content, old.start(1), old.end(1), new, chance)


def _name(content, chance):
    """Another name: one that stands there already, a NUL, half a surrogate pair."""
    names = list(re.finditer(rb'"([a-z_.]+)":', content))
    if not names:
        return content
    old = chance.choice(names)
    new = chance.choice((chance.choice(names)[1], b"\\u0000", b"\\ud800", b"../../etc/passwd", b"__metadata__", b""))
    return _resized(content, old.start(1), old.end(1), new, chance)


def _nest(content, chance):
    i = _place(content, chance)
    depth = chance.choice((3, 130, 3000))
    return _resized(content, i, i, chance.choice((b"[", b'{"a":')) * depth, chance)


def _resized(content, start, end, new, chance):
    """`new` in the place of [start, end); mostly the header's length is put right again."""
    out = content[:start] + new + content[end:]
    if chance.random() < 0.8 and len(out) >= 8:
        length = struct.unpack("<Q", out[:8])[0] + len(new) - (end - start)
        out = struct.pack("<Q", length % 2**64) + out[8:]
    return out


MUTATIONS = (
    _flip_bit,
    _set_byte,
    _delete,
    _insert,
    _repeat,
    _header_length,
    _number,
    _number,
    _kind,
    _name,
    _nest,
)


def spiteful_files():
    """Named files, each with one thing in it that has broken a reader somewhere."""

    def file(header, data=b"", length=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def array(start, end, shape=(2,), kind="F32"):
        return {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}

    def noted(note):
        return file({"__metadata__": {"minigen": note}, "a": array(0, 8)}, bytes(8))

    one = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    deep = 100_000
    return {
        "nothing": b"",
        "zeros": bytes(1000),
        "text": b"#!/bin/sh\nrm -rf /\n" * 20,
        "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
        "a zip": b"PK\x03\x04" + bytes(200),
        "a header of 2^63 bytes": file({}, length=2**63),
        "a header of 99 MB": file({}, length=99_000_000),
        "an array of 1 TB": file({"a": array(0, 2**40, (2**38,))}),
        "a size that overflows": file({"a": array(0, 8, (2**62, 2**62))}, bytes(8)),
        "an empty array with a huge side": file({"a": array(0, 0, (0, 2**63))}),
        "70 dimensions": file({"a": array(0, 4, [1] * 70)}, bytes(4)),
        "overlapping arrays": file({"a": array(0, 8), "b": array(4, 12)}, bytes(12)),
        "a gap": file({"a": array(0, 8), "b": array(12, 20)}, bytes(20)),
        "backwards": file({"a": array(8, 0)}, bytes(8)),
        "past the end": file({"a": array(0, 8), "b": array(8, 16)}, bytes(8)),
        "bytes after the end": file({"a": array(0, 8)}, bytes(9)),
        "the wrong size for its type": file({"a": array(0, 8, kind="F64")}, bytes(8)),
        "a type that does not exist": file({"a": array(0, 8, kind="OBJECT")}, bytes(8)),
        "a key that stands twice": file(b"{" + one + b"," + one.replace(b"F32", b"I32") + b"}", bytes(8)),
        "two arrays of one name": file(b"{" + one + b"," + one.replace(b"[0,8]", b"[8,16]") + b"}", bytes(16)),
        "a NUL name": file({"\0": array(0, 8)}, bytes(8)),
        "a name that is a path": file({"/etc/passwd": array(0, 8)}, bytes(8)),
        "half a surrogate": file(b"{" + one.replace(b'"a"', b'"\\ud800"') + b"}", bytes(8)),
        "not UTF-8": file(b"{" + one.replace(b'"a"', b'"\xff"') + b"}", bytes(8)),
        "deep lists": file(b"[" * deep),
        "deep objects": file(b'{"a":' * deep),
        "deep where nobody looks": file(b"{" + one[:-1] + b',"x":' + b"[" * deep + b"]" * deep + b"}}", bytes(8)),
        "a long list of zeros": file(b"{" + one[:-1] + b',"x":[' + b"0," * deep + b"0]}}", bytes(8)),
        "a note that is not JSON": noted("{"),
        "a note without a tree": noted("{}"),
        "a note of the wrong kind": noted('{"version": 1, "tree": 3}'),
        "a note from the future": noted('{"version": 2, "tree": {}}'),
        "a note nested deep": noted('{"version": 1, "tree": ' + '{"$tuple": [' * 5000 + "]}" * 5000 + "}"),
        "a note that asks for another array": noted('{"version": 1, "tree": {"x": {"$array": "b"}}}'),
        "a note with an unknown tag": noted('{"version": 1, "tree": {"x": {"$eval": "1"}}}'),
        "a note with two tags": noted('{"version": 1, "tree": {"x": {"$array": "a", "$int": "1"}}}'),
        "a note with a key twice": noted('{"version": 1, "tree": {"x": 1, "x": 2}}'),
        "a note with NaN": noted('{"version": 1, "tree": {"x": NaN}}'),
        "a note with a number of a million digits": noted('{"version": 1, "tree": {"x": ' + "9" * 10**6 + "}}"),
        "a scalar that is an array": noted('{"version": 1, "tree": {"x": {"$scalar": "a"}}}'),
        "keys that cannot be keys": noted('{"version": 1, "tree": {"$items": [[[1], 2]]}}'),
    }  # fmt: skip
