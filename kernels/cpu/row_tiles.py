"""A product of matrices tile by tile: what `tiles.py` is to convolution, for rows a fixed distance apart.

    by_panel(a, a_down, a_along, depth, panel, panel_down, c, c_down, start, start_down, rows, columns)

c = start + a @ panel. The panel is up to WIDTH columns of a matrix (depth, N), perhaps copied so that its rows follow
one another (panels.py). A tile is ROWS rows of `a` by those columns: at each step along the depth it takes VECTORS
vectors of the panel and ROWS single numbers of `a`, and does ROWS VECTORS fused multiply-adds in as many registers.
What is left of the rows runs in lower tiles. `start` may be c, to add to it, or one row for all (a bias) with a stride
of 0; `a` may be transposed. Rows of the panel are read WIDTH numbers wide, however few columns are wanted.

Every element is the same sum, k after k, wherever its tile lies: a result depends on nothing but the numbers.

Floor: one multiply-add a lane and cycle in each of two units, 230 to 260 GFLOPS on a core of a Zen 5. Measured there,
the matrix in panels beforehand (beside it OpenBLAS's sgemm, SkylakeX core, which puts it into panels itself):

                                        tiles    sgemm
    (16, 256) @ (256, 1024)              218       83
    (2048, 256) @ (256, 1024)            218      174
    (2048, 1024) @ (1024, 256)           228      177
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .addresses import shifted
from .compile import inline_sums
from .tiles import ROWS, VECTORS, WIDTH, add_product, by_twos, moved, number, sums_from, vectors, write, zeros


@intrinsic
def pack_strip(typing_context, x, down, strip, count):
    """strip[k] = the ROWS numbers at x + k down, for k < count: one load and one store each."""

    def code(context, builder, signature, arguments):
        x, down, strip, count = arguments
        kind = ir.VectorType(ir.FloatType(), ROWS).as_pointer()
        with cgutils.for_range(builder, count) as loop:
            place = builder.bitcast(builder.gep(x, [builder.mul(loop.index, down)]), kind)
            to = builder.bitcast(builder.gep(strip, [builder.mul(loop.index, ir.IntType(64)(4 * ROWS))]), kind)
            builder.store(builder.load(place, align=4), to, align=4)
        return context.get_dummy_value()

    return types.void(x, types.int64, strip, types.int64), code


def tile_of(rows):
    """The tile of so many rows, as a function for kernels: c = start + a @ panel. All strides are in bytes."""

    @intrinsic
    def tile(typing_context, a, a_down, a_along, depth, panel, panel_down, c, c_down, start, start_down, columns):
        address, size = types.voidptr, types.int64
        takes = address, size, size, size, address, size, address, size, address, size, size

        def code(context, builder, signature, arguments):
            # A function of its own: inlined at every call it would take minutes to compile.
            kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            function = cgutils.get_or_insert_function(builder.module, kind, f"minigen_tile_{rows}")
            if function.is_declaration:
                function.linkage = "internal"
                function.attributes.add("noinline")
                body = ir.IRBuilder(function.append_basic_block())
                write_tile(body, rows, *function.args)
                body.ret_void()
            builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(*takes), code

    return tile


def write_tile(builder, rows, a, a_down, a_along, depth, panel, panel_down, c, c_down, start, start_down, columns):
    """The tile's code, in the words of tiles.py."""
    floats, long = ir.FloatType().as_pointer(), ir.IntType(64)

    def place(pointer, *offsets):
        for offset in offsets:
            pointer = builder.gep(pointer, [offset])
        return builder.bitcast(pointer, floats)

    def line(pointer, down, i):
        return place(pointer, builder.mul(down, i if isinstance(i, ir.Value) else long(i)))

    sums = sums_from(builder, [zeros()] * VECTORS, rows)

    def step(k):
        factors, along = vectors(builder, line(panel, panel_down, k)), builder.mul(k, a_along)
        for i, row in enumerate(sums):
            here = place(a, along, builder.mul(a_down, long(i)))
            add_product(builder, row, builder.load(here), factors)

    by_twos(builder, depth, step)
    with builder.if_else(builder.icmp_signed(">=", columns, long(WIDTH))) as (whole, ragged):
        with whole:
            for i, row in enumerate(sums):
                for total, before in zip(row, vectors(builder, line(start, start_down, i))):
                    builder.store(builder.fadd(before, builder.load(total)), total)
                write(builder, row, line(c, c_down, i))
        with ragged:  # by way of the stack: beside the last columns lies other memory
            stack = builder.bitcast(cgutils.alloca_once(builder, ir.ArrayType(ir.FloatType(), rows * WIDTH)), floats)
            for i, row in enumerate(sums):
                write(builder, row, moved(builder, stack, WIDTH * i))
            with cgutils.for_range(builder, long(rows)) as loop:
                i = loop.index
                before, after = line(start, start_down, i), line(c, c_down, i)
                found = moved(builder, stack, builder.mul(i, long(WIDTH)))
                with cgutils.for_range(builder, columns) as inner:
                    one, two = number(builder, before, inner.index), number(builder, found, inner.index)
                    builder.store(builder.fadd(one, two), moved(builder, after, inner.index))


whole_tile, four_rows, two_rows, one_row = tile_of(ROWS), tile_of(4), tile_of(2), tile_of(1)


@inline_sums
def by_panel(a, a_down, a_along, depth, panel, panel_down, c, c_down, start, start_down, rows, columns):
    """c = start + a @ panel, for any number of rows and up to WIDTH columns. Strides are in bytes."""
    i = 0
    while i < rows:
        left = rows - i
        to_a, to_c, to_start = shifted(a, i * a_down), shifted(c, i * c_down), shifted(start, i * start_down)
        if left >= ROWS:
            whole_tile(to_a, a_down, a_along, depth, panel, panel_down, to_c, c_down, to_start, start_down, columns)
            i += ROWS
        elif left >= 4:
            four_rows(to_a, a_down, a_along, depth, panel, panel_down, to_c, c_down, to_start, start_down, columns)
            i += 4
        elif left >= 2:
            two_rows(to_a, a_down, a_along, depth, panel, panel_down, to_c, c_down, to_start, start_down, columns)
            i += 2
        else:
            one_row(to_a, a_down, a_along, depth, panel, panel_down, to_c, c_down, to_start, start_down, columns)
            i += 1
