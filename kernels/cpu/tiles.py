"""Products of small tiles, held in the processor's registers, whose operands may lie anywhere.

    product_tile(x, at, lags, depth, panel, bias, y, to)    y[to[i] + j] = bias[j] + sum over l, k of
                                                            x[at[i] + lags[l] + k] panel[l depth + k, j]
    turned_tile(x, at, lags, g, apart, c, down)             c[i down + j] += sum over p of
                                                            x[at[p] + lags[i]] g[p apart + j]
    dot_tile(x, at, lags, depth, factors, tile)             the sum over j of tile[i, j] = sum over l and k of
                                                            x[at[i] + lags[l] + k] factors[l depth + k]

for i < ROWS and j < WIDTH. All arrays are flat; `at`, `lags` and `to` hold offsets. A product's left operand need not
be a matrix, then: its rows may overlap, or lie along a line of a picture. That is all that convolution asks for, so it
needs no columns (im2col) and no BLAS.

Floor: one multiply-add a number, 2 LANES a cycle. What comes near it is that the ROWS x WIDTH sums stay in registers
while operands stream by: each number of x, read once and spread over a vector, meets WIDTH numbers of the panel; each
vector of the panel meets ROWS of x. LLVM does not find this in a loop nest, so the loop is written in its own language,
by an intrinsic: about 20 instructions, of which 16 multiply and add.

Measured on one core (AMD Zen 5, 512-bit, 4.1 GHz at most, so a floor of 262 Gflop/s), operands in the L2 cache:

    rows x vectors       8 x 2    12 x 2    6 x 4    24 x 1         OpenBLAS, (128, 288) @ (288, 32), columns built
    product_tile          242       240      237       197          110 to 140
    turned_tile           244       238

Each sum is made in the order of l and k (or p), one multiply-add after another, on whatever vectors: its bits depend on
the order alone, never on where arrays lie or on what else is in the tile.
"""

import platform

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_features = get_host_cpu_features()
_arm = platform.machine().lower() in ("aarch64", "arm64")
LANES = 16 if _features.get("avx512f") else 8 if _features.get("avx2") else 4  # float32 numbers in a vector
ROWS = 8 if LANES == 16 or _arm else 6  # of 32 vector registers, or of 16: 2 ROWS hold sums
VECTORS = 2
WIDTH = VECTORS * LANES

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FIRST = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)  # zeros: a shuffle that repeats the first number


# The words the two loops are written in, over LLVM's. (Functions, not a class: the cache of kernels reads those.)


def _starts(context, builder, signature, arguments):
    """Where each argument that is an array begins."""
    pairs = zip(signature.args, arguments)
    return [context.make_array(k)(context, builder, a).data for k, a in pairs if isinstance(k, types.Array)]


def _size(context, builder, signature, arguments, n):
    """The size of the n-th argument, an array."""
    array = context.make_array(signature.args[n])(context, builder, arguments[n])
    return cgutils.unpack_tuple(builder, array.shape, 1)[0]


def _moved(builder, pointer, by):
    return builder.gep(pointer, [ir.Constant(_INDEX, by) if isinstance(by, int) else by])


def _number(builder, pointer, by):
    return builder.load(_moved(builder, pointer, by))


def _places(builder, pointer, count):
    """Where so many vectors, side by side, begin."""
    kind = _VECTOR.as_pointer()
    return [builder.bitcast(_moved(builder, pointer, j * LANES), kind) for j in range(count)]


def _vectors(builder, pointer, count=VECTORS):
    return [builder.load(place, align=4) for place in _places(builder, pointer, count)]


def _multiply_add(builder, a, b, c):
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)  # one instruction where the processor has one for it
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32"), [a, b, c])


def _write(builder, variables, pointer):
    for variable, place in zip(variables, _places(builder, pointer, len(variables))):
        builder.store(builder.load(variable), place, align=4)


def _sums(builder, first):
    """ROWS times VECTORS variables, which LLVM keeps in registers; the vectors `first` are what they start from."""
    return [[cgutils.alloca_once_value(builder, vector) for vector in first] for _ in range(ROWS)]


def _add_product(builder, sums, number, vectors):
    """sums += number * vectors."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    spread = builder.shuffle_vector(one, undefined, _FIRST)
    for total, vector in zip(sums, vectors):
        builder.store(_multiply_add(builder, spread, vector, builder.load(total)), total)


def _by_twos(builder, count, body):
    """body(0), body(1), ... below `count`, two to a turn of the loop."""
    zero, one, two = [ir.Constant(_INDEX, n) for n in range(3)]
    even = builder.and_(count, ir.Constant(_INDEX, -2))
    with cgutils.for_range_slice(builder, zero, even, two, intp=_INDEX) as (i, _):
        body(i)
        body(builder.add(i, one))
    with cgutils.for_range_slice(builder, even, count, one, intp=_INDEX) as (i, _):
        body(i)


@intrinsic
def product_tile(typing_context, x, at, lags, depth, panel, bias, y, to):
    """y[to[i] + j] = bias[j] + sum over l and k < depth of x[at[i] + lags[l] + k] panel[l depth + k, j]."""

    def code(context, builder, signature, arguments):
        x, at, lags, panel, bias, y, to = _starts(context, builder, signature, arguments)
        sums = _sums(builder, _vectors(builder, bias))
        rows = [_moved(builder, x, _number(builder, at, i)) for i in range(ROWS)]
        next_factors = cgutils.alloca_once_value(builder, panel)
        with cgutils.for_range(builder, _size(context, builder, signature, arguments, 2)) as loop:
            lag = _number(builder, lags, loop.index)
            lagging = [_moved(builder, row, lag) for row in rows]

            def add(k):
                factors = builder.load(next_factors)
                builder.store(_moved(builder, factors, WIDTH), next_factors)
                factors = _vectors(builder, factors)
                for i in range(ROWS):
                    _add_product(builder, sums[i], _number(builder, lagging[i], k), factors)

            _by_twos(builder, arguments[3], add)
        for i in range(ROWS):
            _write(builder, sums[i], _moved(builder, y, _number(builder, to, i)))
        return context.get_dummy_value()

    return types.void(x, at, lags, types.int64, panel, bias, y, to), code


@intrinsic
def turned_tile(typing_context, x, at, lags, g, apart, c, down):
    """c[i down + j] += sum over p of x[at[p] + lags[i]] g[p apart + j]."""

    def code(context, builder, signature, arguments):
        x, at, lags, g, c = _starts(context, builder, signature, arguments)
        apart, down = arguments[4], arguments[6]
        rows = [_moved(builder, c, builder.mul(down, ir.Constant(_INDEX, i))) for i in range(ROWS)]
        sums = [[cgutils.alloca_once_value(builder, v) for v in _vectors(builder, row)] for row in rows]
        lagging = [_moved(builder, x, _number(builder, lags, i)) for i in range(ROWS)]
        next_factors = cgutils.alloca_once_value(builder, g)

        def add(p):
            factors = builder.load(next_factors)
            builder.store(_moved(builder, factors, apart), next_factors)
            factors, place = _vectors(builder, factors), _number(builder, at, p)
            for i in range(ROWS):
                _add_product(builder, sums[i], _number(builder, lagging[i], place), factors)

        _by_twos(builder, _size(context, builder, signature, arguments, 1), add)
        for row, vectors in zip(rows, sums):
            _write(builder, vectors, row)
        return context.get_dummy_value()

    return types.void(x, at, lags, g, types.int64, c, types.int64), code


@intrinsic
def dot_tile(typing_context, x, at, lags, depth, factors, tile):
    """tile[i, j] = sum over l and v of x[at[i] + lags[l] + v LANES + j] factors[l depth + v LANES + j], j < LANES."""

    def code(context, builder, signature, arguments):
        x, at, lags, factors, tile = _starts(context, builder, signature, arguments)
        depth = arguments[3]
        totals = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in range(ROWS)]
        rows = [_moved(builder, x, _number(builder, at, i)) for i in range(ROWS)]
        with cgutils.for_range(builder, _size(context, builder, signature, arguments, 2)) as loop:
            lag = _number(builder, lags, loop.index)
            lagging = [_moved(builder, row, lag) for row in rows]
            run = _moved(builder, factors, builder.mul(loop.index, depth))

            def add(v):
                k = builder.mul(v, ir.Constant(_INDEX, LANES))
                (factor,) = _vectors(builder, _moved(builder, run, k), 1)
                for i in range(ROWS):
                    (numbers,) = _vectors(builder, _moved(builder, lagging[i], k), 1)
                    builder.store(_multiply_add(builder, numbers, factor, builder.load(totals[i])), totals[i])

            _by_twos(builder, builder.sdiv(depth, ir.Constant(_INDEX, LANES)), add)
        for i in range(ROWS):
            _write(builder, [totals[i]], _moved(builder, tile, i * LANES))
        return context.get_dummy_value()

    return types.void(x, at, lags, types.int64, factors, tile), code
