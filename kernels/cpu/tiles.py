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


# The words that tiles are written in, here and in row_tiles.py, over LLVM's. (Functions, not a class: the cache of
# kernels reads those.)


def vector_of(kind):
    return ir.VectorType(kind, LANES)


def zeros():
    return ir.Constant(vector_of(_FLOAT), None)


def starts(context, builder, signature, arguments):
    """Where each argument that is an array begins."""
    pairs = zip(signature.args, arguments)
    return [context.make_array(k)(context, builder, a).data for k, a in pairs if isinstance(k, types.Array)]


def size(context, builder, signature, arguments, n):
    """The size of the n-th argument, an array."""
    array = context.make_array(signature.args[n])(context, builder, arguments[n])
    return cgutils.unpack_tuple(builder, array.shape, 1)[0]


def moved(builder, pointer, by):
    return builder.gep(pointer, [ir.Constant(_INDEX, by) if isinstance(by, int) else by])


def number(builder, pointer, by):
    return builder.load(moved(builder, pointer, by))


def places(builder, pointer, count):
    """Where so many vectors, side by side, begin."""
    kind = vector_of(_FLOAT).as_pointer()
    return [builder.bitcast(moved(builder, pointer, j * LANES), kind) for j in range(count)]


def vectors(builder, pointer, count=None):
    return [builder.load(place, align=4) for place in places(builder, pointer, count or VECTORS)]


def multiply_add(builder, a, b, c):
    vector = vector_of(_FLOAT)
    kind = ir.FunctionType(vector, [vector] * 3)  # one instruction where the processor has one for it
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32"), [a, b, c])


def write(builder, variables, pointer):
    """Store the vectors in some variables, side by side."""
    for variable, place in zip(variables, places(builder, pointer, len(variables))):
        builder.store(builder.load(variable), place, align=4)


def sums_from(builder, first, rows=None):
    """ROWS times VECTORS variables, which LLVM keeps in registers; the vectors `first` are what they start from."""
    return [[cgutils.alloca_once_value(builder, vector) for vector in first] for _ in range(rows or ROWS)]


def add_product(builder, sums, number, vectors):
    """sums += number * vectors."""
    undefined, first = ir.Constant(vector_of(_FLOAT), ir.Undefined), ir.Constant(vector_of(ir.IntType(32)), None)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    spread = builder.shuffle_vector(one, undefined, first)
    for total, vector in zip(sums, vectors):
        builder.store(multiply_add(builder, spread, vector, builder.load(total)), total)


def by_twos(builder, count, body):
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
        x, at, lags, panel, bias, y, to = starts(context, builder, signature, arguments)
        sums = sums_from(builder, vectors(builder, bias))
        rows = [moved(builder, x, number(builder, at, i)) for i in range(ROWS)]
        next_factors = cgutils.alloca_once_value(builder, panel)
        with cgutils.for_range(builder, size(context, builder, signature, arguments, 2)) as loop:
            lag = number(builder, lags, loop.index)
            lagging = [moved(builder, row, lag) for row in rows]

            def add(k):
                factors = builder.load(next_factors)
                builder.store(moved(builder, factors, WIDTH), next_factors)
                factors = vectors(builder, factors)
                for i in range(ROWS):
                    add_product(builder, sums[i], number(builder, lagging[i], k), factors)

            by_twos(builder, arguments[3], add)
        for i in range(ROWS):
            write(builder, sums[i], moved(builder, y, number(builder, to, i)))
        return context.get_dummy_value()

    return types.void(x, at, lags, types.int64, panel, bias, y, to), code


@intrinsic
def turned_tile(typing_context, x, at, lags, g, apart, c, down):
    """c[i down + j] += sum over p of x[at[p] + lags[i]] g[p apart + j]."""

    def code(context, builder, signature, arguments):
        x, at, lags, g, c = starts(context, builder, signature, arguments)
        apart, down = arguments[4], arguments[6]
        rows = [moved(builder, c, builder.mul(down, ir.Constant(_INDEX, i))) for i in range(ROWS)]
        sums = [[cgutils.alloca_once_value(builder, v) for v in vectors(builder, row)] for row in rows]
        lagging = [moved(builder, x, number(builder, lags, i)) for i in range(ROWS)]
        next_factors = cgutils.alloca_once_value(builder, g)

        def add(p):
            factors = builder.load(next_factors)
            builder.store(moved(builder, factors, apart), next_factors)
            factors, place = vectors(builder, factors), number(builder, at, p)
            for i in range(ROWS):
                add_product(builder, sums[i], number(builder, lagging[i], place), factors)

        by_twos(builder, size(context, builder, signature, arguments, 1), add)
        for row, totals in zip(rows, sums):
            write(builder, totals, row)
        return context.get_dummy_value()

    return types.void(x, at, lags, g, types.int64, c, types.int64), code


@intrinsic
def dot_tile(typing_context, x, at, lags, depth, factors, tile):
    """tile[i, j] = sum over l and v of x[at[i] + lags[l] + v LANES + j] factors[l depth + v LANES + j], j < LANES."""

    def code(context, builder, signature, arguments):
        x, at, lags, factors, tile = starts(context, builder, signature, arguments)
        depth = arguments[3]
        totals = [cgutils.alloca_once_value(builder, zeros()) for _ in range(ROWS)]
        rows = [moved(builder, x, number(builder, at, i)) for i in range(ROWS)]
        with cgutils.for_range(builder, size(context, builder, signature, arguments, 2)) as loop:
            lag = number(builder, lags, loop.index)
            lagging = [moved(builder, row, lag) for row in rows]
            run = moved(builder, factors, builder.mul(loop.index, depth))

            def add(v):
                k = builder.mul(v, ir.Constant(_INDEX, LANES))
                (factor,) = vectors(builder, moved(builder, run, k), 1)
                for i in range(ROWS):
                    (numbers,) = vectors(builder, moved(builder, lagging[i], k), 1)
                    builder.store(multiply_add(builder, numbers, factor, builder.load(totals[i])), totals[i])

            by_twos(builder, builder.sdiv(depth, ir.Constant(_INDEX, LANES)), add)
        for i in range(ROWS):
            write(builder, [totals[i]], moved(builder, tile, i * LANES))
        return context.get_dummy_value()

    return types.void(x, at, lags, types.int64, factors, tile), code
