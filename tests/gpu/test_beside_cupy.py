"""names.json beside CuPy itself, which can be imported without a GPU."""

import inspect

import pytest
import standin
from standin.functions import NAMES, signature


@pytest.fixture(scope="module")
def cupy():
    if not standin.cupy_is_here():
        pytest.skip("CuPy is not installed")
    import cupy

    if cupy.__version__ != NAMES["version"]:
        pytest.skip(f"names.json is of CuPy {NAMES['version']}, installed is {cupy.__version__}")
    return cupy


def test_functions_and_signatures(cupy):
    for name, text in NAMES["functions"].items():
        theirs = getattr(cupy, name)
        try:
            given = inspect.signature(theirs)
        except ValueError:
            continue
        assert list(given.parameters) == list(signature(text).parameters), name
    for name in NAMES["linalg"]:
        assert hasattr(cupy.linalg, name)
    for name in NAMES["methods"]:
        assert hasattr(cupy.ndarray, name)


def test_types(cupy):
    for name, types in NAMES["ufuncs"].items():
        assert " ".join(getattr(cupy, name).types) == types, name
