"""Products on the GPU: what cuBLAS is asked, against one that computes on the host, and our own kernel, emulated."""

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from fake_cublas import Host
from test_cuda_kernels import check, draw, wide

from minigen.kernels.cpu import linear as cpu_linear
from minigen.kernels.cuda import blas, compile, gemm, linear, matrices, precision

pytestmark = pytest.mark.kernels
F = np.float32


@pytest.fixture
def host(emulator):
    host = Host(emulator)
    with compile.running_on(host):
        yield host


def turned(x):
    """The same numbers, whose memory is that of the transpose."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def with_gaps(x):
    """The same numbers as the middle of longer rows."""
    room = np.full((*x.shape[:-1], x.shape[-1] + 5), np.nan, x.dtype)
    room[..., 2:-3] = x
    return room[..., 2:-3]


def every_second(x):
    room = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    room[..., ::2] = x
    return room[..., ::2]


def backwards(x):
    return np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]


READ = {
    "rows": np.ascontiguousarray,
    "columns": turned,
    "gaps": with_gaps,
    "gaps and columns": lambda x: with_gaps(x.swapaxes(-1, -2)).swapaxes(-1, -2),
}
COPIED = {"every second": every_second, "backwards": backwards}
SIZES = [(5, 7, 9), (1, 6, 4), (4, 6, 1), (1, 5, 1), (6, 1, 3), (33, 40, 16)]
STACKED = {"backwards along the stack": lambda x: np.ascontiguousarray(x[::-1])[::-1]}
STACKS = [
    ((3, 4, 5), (3, 5, 2)),
    ((3, 4, 5), (1, 5, 2)),
    ((4, 5), (3, 5, 2)),
    ((2, 3, 4, 5), (2, 3, 5, 2)),
    ((2, 1, 4, 5), (1, 3, 5, 2)),
    ((3, 4, 5), (2, 3, 5, 2)),
    ((2, 1, 2, 4, 5), (1, 3, 2, 5, 2)),
]
EMPTY = [((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((2, 2, 0), (2, 0, 3))]


def exact(a, b):
    return wide(a).astype(np.float64) @ wide(b).astype(np.float64)


def agree(got, a, b, plus=0):
    """got is the product, rounded once to its type; float32 sums are off by some units."""
    want = exact(a, b) + plus
    check(got, want, absolute=4e-6)


# ---- what cuBLAS is asked ----


@pytest.mark.parametrize("left", [*READ, *COPIED])
@pytest.mark.parametrize("right", [*READ, *COPIED])
def test_a_product_of_two_matrices(host, dtype, left, right):
    for M, K, N in SIZES:
        a = (READ | COPIED)[left](draw((M, K), dtype))
        b = (READ | COPIED)[right](draw((K, N), dtype, 1.0, 1))
        got = blas.matmul(a, b)
        assert got.dtype == dtype and got.flags.c_contiguous
        agree(got, a, b)
    (name, asked) = host.cublas.calls[0]
    assert name == "cublasGemmEx" and len(host.cublas.calls) == len(SIZES)
    assert (asked.m, asked.n, asked.k) == (9, 5, 7)
    assert (asked.ta, asked.tb) == ("columns" in right, "columns" in left)


def test_nothing_is_copied_that_can_be_read(host):
    x = draw((8, 12))
    for a, b in [(x, x.T), (x.T, x), (x[:, 2:7], x[:5]), (x[1::2], x[:, 3:].T[:, :0:-1][::-1, ::-1].T[:, :12].T)]:
        if a.shape[1] != b.shape[0]:
            continue
        agree(blas.matmul(a, b), a, b)
        assert host.cublas.calls[-1][1].b == a.ctypes.data and host.cublas.calls[-1][1].a == b.ctypes.data
    assert len(host.cublas.calls) == 3


LAID = [("rows", "rows"), ("columns", "gaps"), ("gaps and columns", "columns")]


@pytest.mark.parametrize("first, second", STACKS)
@pytest.mark.parametrize("left, right", [*LAID, ("every second", "backwards along the stack")])
def test_stacks(host, dtype, first, second, left, right):
    laid = READ | COPIED | STACKED
    a, b = laid[left](draw(first, dtype)), laid[right](draw(second, dtype, 1.0, 1))
    got = blas.matmul(a, b)
    agree(got, a, b)
    into = np.empty(got.shape, F)
    agree(blas.matmul(a, b, into), a, b)


def test_a_stack_is_one_call(host):
    x = draw((2, 5, 3, 4))
    heads = x.transpose(0, 2, 1, 3)  # (2, 3, 5, 4): the two leading dimensions do not make one
    agree(blas.matmul(heads, heads.swapaxes(-1, -2)), heads, heads.swapaxes(-1, -2))
    assert [(name, asked.count) for name, asked in host.cublas.calls] == 2 * [("cublasGemmStridedBatchedEx", 3)]
    assert host.cublas.calls[1][1].a - host.cublas.calls[0][1].a == 4 * 60
    host.cublas.calls.clear()
    shared = draw((4, 6))
    agree(blas.matmul(x, shared), x, shared)
    (call,) = host.cublas.calls
    assert call[1].count == 10 and call[1].stride_a == 0 and call[1].a == shared.ctypes.data


def test_many_calls_are_made_fewer_by_copies(host):
    x = draw((20, 3, 18, 2))
    heads = x.transpose(0, 2, 1, 3)  # 18 calls for 20 matrices each, or copies and one call
    agree(blas.matmul(heads, heads.swapaxes(-1, -2)), heads, heads.swapaxes(-1, -2))
    assert [asked.count for _, asked in host.cublas.calls] == [360]


@pytest.mark.parametrize("first, second", EMPTY)
def test_empty_products(host, dtype, first, second):
    a, b = draw(first, dtype), draw(second, dtype)
    got = blas.matmul(a, b)
    assert got.shape == exact(a, b).shape and got.dtype == dtype and not got.astype(F).any()
    assert host.cublas.calls == []


def test_into_an_array(host, dtype):
    a, b = draw((5, 7), dtype), draw((7, 6), dtype, 1.0, 1)
    for kind in (dtype, np.dtype(F)):
        into = np.full((5, 6), np.nan, kind)
        assert blas.matmul(a, b, into) is into
        agree(into, a, b)
        assert host.cublas.calls[-1][1].c == into.ctypes.data
        into[...] = 3
        assert blas.matmul(a, b, into, add=True) is into
        agree(into, a, b, 3)
    for into in (np.full((6, 5), 3, dtype).T, np.full((5, 6), 3, np.float64)):
        assert blas.matmul(a, b, into, add=True) is into
        assert abs(into.astype(F) - exact(a, b) - 3).max() < 0.05
    into = np.full((5, 6), 3, dtype)
    assert (blas.matmul(a[:, :0], b[:0], into, add=True) == 3).all() and not blas.matmul(a[:, :0], b[:0], into).any()


def test_types_and_sums_are_named(host):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype, code in [(F, 0), (np.float16, 2), (ml_dtypes.bfloat16, 14)]:
        blas.matmul(draw((2, 3), dtype), draw((3, 2), dtype), np.empty((2, 2), F))
        asked = host.cublas.calls[-1][1]
        assert (asked.kind_a, asked.kind_b, asked.kind_c, asked.compute, asked.algorithm) == (code, code, 0, 68, -1)
    assert ("math mode", 1001, 16) in host.cublas.set


def test_what_does_not_fit_is_refused_before_memory_is_read(host):
    a, b = draw((3, 4, 5)), draw((3, 5, 2))
    for one, other in [(a, b[:, :4]), (a[:2], b), (a[0], b[0, 1:])]:
        with pytest.raises(ValueError, match=r"shape|inner sizes differ"):
            blas.matmul(one, other)
    with pytest.raises(TypeError, match="a product of float32 and float16: both must be of one type"):
        blas.matmul(a, b.astype(np.float16))
    with pytest.raises(ValueError, match=r"a product of shape \(3, 4, 2\) into an array of \(4, 2\)"):
        blas.matmul(a, b, np.empty((4, 2), F))
    assert host.cublas.calls == []


# ---- TF32 ----


@pytest.fixture
def tf32_allowed():
    precision.allow_tf32(True)
    yield
    precision.allow_tf32(False)


def test_tf32_is_off_until_asked_for(host, tf32_allowed):
    a, b = draw((2, 3)), draw((3, 2))
    computed = lambda dtype: (blas.matmul(a.astype(dtype), b.astype(dtype)), host.cublas.calls[-1][1].compute)[1]
    assert computed(F) == 77 and computed(np.float16) == 68
    host.capability = 75
    assert computed(F) == 68
    host.capability = 90
    precision.allow_tf32(False)
    assert computed(F) == 68


def test_the_switch_has_pytorchs_name(host):
    import minigen

    assert minigen.get_float32_matmul_precision() == "highest" and not precision.tf32()
    try:
        for name in ("high", "medium"):
            minigen.set_float32_matmul_precision(name)
            assert minigen.get_float32_matmul_precision() == "high" and precision.tf32()
    finally:
        minigen.set_float32_matmul_precision("highest")
    assert not precision.tf32()
    with pytest.raises(minigen.errors.ArgumentError, match="'tf32'"):
        minigen.set_float32_matmul_precision("tf32")


# ---- handles, streams, faults ----


def test_a_stream_is_set_once_and_has_its_own_workspace(host):
    a = draw((2, 2))
    for stream in (7, 7, 9, 9, 7):
        host.stream = stream
        blas.matmul(a, a)
    settings = [entry for entry in host.cublas.set if entry[0] != "math mode"]
    assert [entry[0] for entry in settings] == 3 * ["stream", "workspace"]
    assert [entry[2] for entry in settings[::2]] == [7, 9, 7]
    first, second, third = (entry[2:] for entry in settings[1::2])
    assert first == third != second and first[1] == 4 << 20


def test_each_thread_has_its_own_handle_and_leaves_it_to_the_next(host):
    a = draw((2, 2))
    blas.matmul(a, a)
    for _ in range(3):
        thread = threading.Thread(target=blas.matmul, args=(a, a))
        thread.start()
        thread.join()
    used = [asked.handle for _, asked in host.cublas.calls]
    assert used == [1001, 1002, 1002, 1002] and host.cublas.handles == 2


def test_a_failure_names_the_call_its_shapes_and_types(host):
    host.cublas.fails = 15
    said = r"cublasGemmEx of \(2, 3\) @ \(3, 2\), float32 into float32, compute capability 8\.0, fails with status 15"
    with pytest.raises(RuntimeError, match=f"{said}, CUBLAS_STATUS_NOT_SUPPORTED"):
        blas.matmul(draw((2, 3)), draw((3, 2)))
    with pytest.raises(RuntimeError, match=r"cublasGemmStridedBatchedEx of \(4, 2, 3\)"):
        blas.matmul(draw((4, 2, 3)), draw((4, 3, 2)))


def test_a_size_that_cublas_cannot_take(host):
    long = np.lib.stride_tricks.as_strided(draw((1, 1)), (2**31, 1), (4, 4))
    with pytest.raises(RuntimeError, match=r"\(1, 2147483648\) @ \(2147483648, 1\): cuBLAS takes no size above"):
        blas.matmul(long.T, long)


def test_finding_the_library(monkeypatch, tmp_path):
    wheel = tmp_path / "nvidia" / "cublas" / "lib"
    wheel.mkdir(parents=True)
    (wheel / "libcublas.so.12").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    version = lambda: 12090
    arrays = SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(runtimeGetVersion=version)))
    with compile.running_on(SimpleNamespace(arrays=arrays)):
        if sys.platform == "linux":
            assert list(blas.candidates())[-2:] == ["libcublas.so.12", str(wheel / "libcublas.so.12")]
        tried, signed = [], SimpleNamespace(**{name: SimpleNamespace() for name in blas.SIGNATURES})

        def load(path):
            tried.append(path)
            if path == "broken":
                raise OSError
            return SimpleNamespace() if path == "without its functions" else signed

        monkeypatch.setattr(blas, "candidates", lambda: ["broken", "without its functions", "good", "not tried"])
        monkeypatch.setattr(blas.ctypes, "CDLL", load)
        monkeypatch.setitem(sys.modules, "cupy_backends", ModuleType("cupy_backends"))
        assert blas.find.__wrapped__() is signed and tried == ["broken", "without its functions", "good"]
        assert signed.cublasGemmEx.argtypes is blas.SIGNATURES["cublasGemmEx"]
        monkeypatch.setattr(blas, "candidates", lambda: ["broken"])
        with pytest.warns(UserWarning, match="cuBLAS.* is not found: products run on minigen's own kernel"):
            assert blas.find.__wrapped__() is None


def test_cupy_is_asked_to_load_the_library(monkeypatch):
    """CuPy 14 looks for cuBLAS (in wheels, conda, CUDA_PATH) where its package of libraries is asked for the name;
    `import cupy_backends.cuda.libs.cublas` would pass that by, and fail where the system does not know the library."""
    asked = []
    libs = ModuleType("cupy_backends.cuda.libs")
    libs.__path__ = []
    libs.__getattr__ = lambda name: asked.append(name) or ModuleType(name)
    for name in ("cupy_backends", "cupy_backends.cuda"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs", libs)
    monkeypatch.setattr(blas, "candidates", list)
    with pytest.warns(UserWarning, match="cuBLAS"):
        blas.find.__wrapped__()
    assert "cublas" in asked


# ---- our own kernel ----

FORMS = [("rows", "rows"), ("rows", "columns"), ("columns", "rows"), ("columns", "columns")]


def made_by(on_gpu, a, b, bias=None, dtype=None, add=None):
    """gemm.product of these, in an array of this type that holds `add`, or NaN."""
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + (a.shape[-2], b.shape[-1])
    c = np.full(shape, np.nan if add is None else add, dtype or a.dtype)
    call = lambda c: gemm.product(on_gpu.over(a), on_gpu.over(b), c, on_gpu.over(bias), add is not None)
    return on_gpu.in_place(call, c)[0]


@pytest.mark.parametrize("left, right", FORMS)
@pytest.mark.parametrize("M, K, N", [(3, 5, 7), (70, 16, 64), (64, 200, 72), (1, 129, 66)])
def test_our_kernel(on_gpu, dtype, left, right, M, K, N):
    a, b = READ[left](draw((M, K), dtype)), READ[right](draw((K, N), dtype, 1.0, 1))
    agree(made_by(on_gpu, a, b), a, b)


def test_our_kernel_reads_gaps_and_odd_addresses(on_gpu, dtype):
    for left, right in [("gaps", "gaps and columns"), ("gaps and columns", "gaps"), ("every second", "backwards")]:
        a = (READ | COPIED)[left](draw((20, 37), dtype))
        b = (READ | COPIED)[right](draw((37, 24), dtype, 1.0, 1))
        agree(made_by(on_gpu, a, b), a, b)


@pytest.mark.parametrize("first, second", STACKS[2:5])
def test_our_kernel_takes_stacks(on_gpu, dtype, first, second):
    a, b = draw(first, dtype), turned(draw(second, dtype, 1.0, 1))
    agree(made_by(on_gpu, a, b), a, b)


def test_our_kernel_adds_a_bias_or_to_what_is_there(on_gpu, dtype):
    a, b, bias = draw((66, 9), dtype), draw((9, 67), dtype, 1.0, 1), draw(67, dtype, 1.0, 2)
    agree(made_by(on_gpu, a, b, bias), a, b, wide(bias))
    agree(made_by(on_gpu, a, b, dtype=F), a, b)
    agree(made_by(on_gpu, a, b, add=3), a, b, 3)
    agree(made_by(on_gpu, a[:, :0], b[:0], bias), a[:, :0], b[:0], wide(bias))


@pytest.mark.parametrize("left, right", FORMS)
def test_our_kernel_in_tf32(on_gpu, tf32_allowed, left, right):
    a, b = READ[left](draw((67, 21))), READ[right](draw((21, 66), F, 1.0, 1))
    got = made_by(on_gpu, a, b)
    if compile.machine.capability < 80:
        pytest.skip("this card has no TF32")
    tf32 = lambda x: ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(F)
    agree(got, tf32(np.ascontiguousarray(a)), tf32(np.ascontiguousarray(b)))
    assert abs(got - exact(a, b)).max() > 1e-4  # which float32 would not be off by


def test_without_cublas_products_run_on_our_kernel(emulator, dtype):
    a, b = draw((2, 5, 9), dtype), turned(draw((9, 6), dtype, 1.0, 1))
    with compile.running_on(emulator):
        agree(blas.matmul(a, b), a, b)
        agree(blas.matmul(a[0], b, np.full((5, 6), 2, F), add=True), a[0], b, 2)
        assert "own kernel" in blas.describe()
    assert ("gemm.cu", "gemm_nt") in emulator.launched


# ---- the linear layer ----


@pytest.fixture(params=["cuBLAS", "cuBLAS, large", "our kernel"])
def any_way(request, emulator, monkeypatch):
    host = Host(emulator)
    if request.param == "our kernel":
        host.cublas = None
    if request.param == "cuBLAS, large":
        monkeypatch.setattr(linear, "SMALL", 0)
    with compile.running_on(host):
        yield


@pytest.mark.parametrize("shape, outputs", [((3, 5), 4), ((2, 9, 13), 70), ((0, 3), 2), ((4, 0), 3), ((2, 3), 0)])
def test_linear(any_way, dtype, shape, outputs):
    x, w, b = draw(shape, dtype), draw((outputs, shape[-1]), dtype, 1.0, 1), draw(outputs, dtype, 1.0, 2)
    rows = np.repeat(x, 2, axis=-1)[..., ::2]
    for bias in (b, None):
        for one in (x, rows):
            y = linear.linear(one, w, bias)
            assert y.dtype == dtype
            agree(y, x, w.T, 0 if bias is None else wide(bias))
    g = draw((*shape[:-1], outputs), dtype, 1.0, 3)
    got, want = linear.linear_gradient(g, x, w), cpu_linear.linear_gradient(wide(g), wide(x), wide(w))
    for one, other in zip(got, want):
        assert one.dtype == dtype
        check(one, other, absolute=1e-5)
    into = np.full(w.shape, np.nan, F), np.full(b.shape, np.nan, F)
    gx, gw, gb = linear.linear_gradient(g, x, w, (False, True, True), (None, *into))
    assert gx is None and gw is into[0] and gb is into[1]
    check(gw, want[1], absolute=1e-5)
    check(gb, want[2], absolute=1e-5)


def test_the_bias_of_many_rows(on_gpu, dtype):
    y, b = np.empty((1200, 19), dtype), draw(19, dtype)
    got = on_gpu.in_place(linear.fill_rows, y, b)[0]
    assert (got == b).all()


def test_products_and_layers_where_kernels_run(on_gpu, dtype):
    """On a card, with its own cuBLAS."""
    x, w, b = draw((3, 20, 33), dtype), draw((40, 33), dtype, 1.0, 1), draw(40, dtype, 1.0, 2)
    agree(on_gpu(linear.linear, x, w, b), x, w.T, wide(b))
    agree(on_gpu(lambda x, w: blas.matmul(x, w.T), x, w), x, w.T)
    agree(on_gpu(lambda x: blas.matmul(x, x.swapaxes(-1, -2)), x), x, x.swapaxes(-1, -2))
    agree(on_gpu(lambda x: blas.matmul(x[0].T, x[:, :, 1:9]), x), x[0].T, x[:, :, 1:9])
    g = draw((3, 20, 40), dtype, 1.0, 3)
    want = cpu_linear.linear_gradient(wide(g), wide(x), wide(w))
    for one, other in zip(on_gpu(linear.linear_gradient, g, x, w), want):
        check(one, other, absolute=1e-5)


# ---- how arrays are seen ----


def test_stacked_walks_as_few_dimensions_as_can_be():
    assert matrices.stacked((2, 3), (15, 5), (0, 0), (6, 2)) == (6, (5, 0, 2), [(0, 0, 0)])
    assert matrices.stacked((2, 3), (15, 5), (1, 0), (6, 2)) == (3, (5, 0, 2), [(0, 0, 0), (15, 1, 6)])
    assert matrices.stacked((1, 1), (9, 9), (9, 9), (9, 9)) == matrices.ALONE


# ---- the ops ----


@pytest.fixture(params=["cuBLAS", "our kernel"])
def ops_on_gpu(request, emulator, monkeypatch):
    """Ops take the CUDA families for NumPy arrays, whatever their size."""
    from minigen import kernels
    from minigen.ops import linalg

    families = {"blas": blas, "linear": linear}
    take = lambda array, family: families.get(family) if array.dtype.name in blas.TYPES else None
    monkeypatch.setattr(kernels, "find", take)
    monkeypatch.setattr(linalg, "SMALL", -1)
    monkeypatch.setattr(linalg, "SMALL_VECTOR", -1)
    host = Host(emulator)
    if request.param == "our kernel":
        host.cublas = None
    with compile.running_on(host):
        yield host


def products():
    """Names and functions of tensors, with the shapes of their arguments."""
    import minigen
    from minigen.nn import functional

    yield "matmul", minigen.matmul, (2, 3, 4, 5), (3, 5, 2)
    yield "rows", minigen.matmul, (2, 3, 5), (5, 4)
    yield "vectors", minigen.matmul, (2, 3, 5), (5,)
    yield "bmm", minigen.bmm, (3, 4, 5), (3, 5, 2)
    yield "dot", minigen.dot, (7,), (7,)
    yield "outer", minigen.outer, (3,), (4,)
    yield "transposed", lambda a, b: a.mT @ b.mT, (3, 5, 4), (3, 2, 5)
    yield "baddbmm", lambda x, a, b: minigen.baddbmm(x, a, b, beta=2, alpha=3), (3, 4, 2), (3, 4, 5), (3, 5, 2)
    yield "einsum", lambda a, b: minigen.einsum("bqhd,bkhd->bhqk", a, b), (2, 3, 4, 5), (2, 6, 4, 5)
    yield "einsum of vectors", lambda a, b: minigen.einsum("bi,bi->b", a, b), (3, 5), (3, 5)
    yield "linear", functional.linear, (2, 3, 5), (4, 5), (4,)
    yield "bilinear", functional.bilinear, (3, 4), (3, 5), (2, 4, 5), (2,)


def through(function, arrays, twice):
    """The value and the gradients of a function; `twice`: those of a function of the gradients, too."""
    import minigen
    from minigen import autograd

    tensors = [minigen.tensor(x, requires_grad=True) for x in arrays]
    y = function(*tensors)
    first = autograd.grad((y * y).sum(), tensors, create_graph=twice)
    if not twice:
        return [x.detach() for x in (y, *first)]
    total = (first[0] * first[0]).sum()
    for g in first[1:]:
        total = total + (g * g).sum()
    return [x.detach() for x in (y, *first, *autograd.grad(total, tensors))]


def test_the_ops_use_the_kernels_to_the_second_derivative(ops_on_gpu):
    host = ops_on_gpu
    for name, function, *shapes in products():
        arrays = [draw(shape, F, 1.0, seed) for seed, shape in enumerate(shapes)]
        got = through(function, arrays, True)
        want = through(function, [x.astype(np.float64) for x in arrays], True)  # float64 takes no kernel
        for one, other in zip(got, want):
            check(one.numpy(), other.numpy(), 1e-5, 1e-5)
            assert one.dtype == F, name
    if host.cublas is not None:
        assert {name for name, _ in host.cublas.calls} == {"cublasGemmEx", "cublasGemmStridedBatchedEx"}


def test_the_ops_refuse_what_does_not_fit(ops_on_gpu):
    import minigen
    from minigen.nn import functional

    with pytest.raises(minigen.errors.ShapeError, match=r"the last dimension of the first \(4\) must equal"):
        minigen.ones(3, 4) @ minigen.ones(3, 4)
    with pytest.raises(minigen.errors.ShapeError, match="the leading dimensions"):
        minigen.ones(2, 3, 4) @ minigen.ones(3, 4, 3)
    with pytest.raises(minigen.errors.ShapeError, match="linear: x"):
        functional.linear(minigen.ones(2, 3), minigen.ones(3, 4))


@pytest.mark.parametrize("kind, room", [("float16", 5e-3), ("bfloat16", 4e-2)])
def test_the_ops_keep_16_bits(ops_on_gpu, kind, room):
    dtype = np.dtype(kind if kind == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    for name, function, *shapes in products():
        arrays = [draw(shape, dtype, 1.0, seed) for seed, shape in enumerate(shapes)]
        got = through(function, arrays, False)
        want = through(function, [x.astype(np.float64) for x in arrays], False)
        for one, other in zip(got, want):
            assert one.dtype == dtype, name
            off = abs(wide(one.numpy()) - other.numpy())
            assert off.max() <= room * abs(other.numpy()).max(), name


def test_16_bits_are_summed_in_float32_without_kernels(dtype):
    import minigen
    from minigen import kernels

    a, b = draw((2, 3, 300), dtype), draw((2, 300, 4), dtype, 1.0, 1)
    with kernels.disabled():
        got = (
            minigen.tensor(a) @ minigen.tensor(b),
            minigen.einsum("bik,bkj->bij", a, b),
            minigen.dot(a[0, 0], b[0, :, 0]),
        )
    for one, want in zip(got, (exact(a, b), exact(a, b), exact(a, b)[0, 0, 0])):
        assert one.dtype == dtype
        check(np.asarray(one), np.asarray(want), absolute=4e-6)
