"""Every public function has the right gradient, and a kernel that agrees with its definition: `minigen check`."""

import numpy as np
import pytest

import minigen
from minigen import checks
from minigen.faults.examples import Call, calls

FOUND, _ = calls()


@pytest.mark.parametrize("name", sorted(FOUND))
def test_gradient(name):
    result = checks.check(name, FOUND[name])
    assert result is None or result.ok, result


def test_a_wrong_gradient_is_found():
    @minigen.op
    def cube(x):
        return x * x * x

    cube.gradient(x=lambda g, x: g * 2.0 * x * x)
    x = minigen.tensor([0.5, 0.7], requires_grad=True)
    assert not checks.check("cube", Call("cube", cube, (x,))).ok


def test_a_wrong_second_gradient_is_found():
    @minigen.op
    def cube(x):
        return x * x * x

    cube.gradient(x=lambda g, x: g * 3.0 * minigen.autograd.value(x) ** 2)
    x = minigen.tensor([0.5, 0.7], requires_grad=True)
    found = checks.check("cube", Call("cube", cube, (x,)))
    assert found.gradient < checks.RIGHT < found.second


@pytest.mark.kernels
def test_a_kernel_that_differs_from_its_definition_is_found():
    @minigen.op
    def double(x):
        return NotImplemented if x.dtype == np.float64 or not minigen.kernels.enabled() else x * 2.001

    double.gradient(x=lambda g: g * 2.0)
    double.definition(lambda x: x * 2.0)
    x = minigen.tensor([0.5, 0.7], requires_grad=True)
    assert checks.check("double", Call("double", double, (x,))).kernel > checks.KERNEL_RIGHT


def test_the_table(capsys):
    assert checks.main(["--only", "functional.gelu"]) == 0
    assert "1 of 1 functions have the right gradient" in capsys.readouterr().out
