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
from .tiles import LANES, ROWS, VECTORS, WIDTH
from .vector_math import FUSES

UNROLL = 2  # steps along the depth between two looks at the loop's end


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
    """The tile's code. LLVM does not find it in a loop nest, so it is written in LLVM's own language."""
    number, long = ir.FloatType(), ir.IntType(64)
    vector, lanes = ir.VectorType(number, LANES), ir.VectorType(ir.IntType(32), LANES)
    nothing, first = ir.Constant(vector, ir.Undefined), ir.Constant(lanes, [0] * LANES)
    fused = ir.FunctionType(vector, [vector] * 3)
    fma = cgutils.get_or_insert_function(builder.module, fused, f"llvm.fma.v{LANES}f32")

    def place(pointer, *offsets):
        for offset in offsets:
            pointer = builder.gep(pointer, [offset])
        return pointer

    def load(pointer):
        value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        value.align = 4
        return value

    def store(value, pointer):
        builder.store(value, builder.bitcast(pointer, vector.as_pointer())).align = 4

    def spread(pointer):
        value = builder.load(builder.bitcast(pointer, number.as_pointer()))
        one = builder.insert_element(nothing, value, ir.IntType(32)(0))
        return builder.shuffle_vector(one, nothing, first)

    def multiply_add(x, y, z):
        return builder.call(fma, [x, y, z]) if FUSES else builder.fadd(builder.fmul(x, y), z)

    sums = [[cgutils.alloca_once(builder, vector) for _ in range(VECTORS)] for _ in range(rows)]
    for row in sums:
        for total in row:
            builder.store(ir.Constant(vector, [0.0] * LANES), total)

    def step(k):
        b = place(panel, builder.mul(k, panel_down))
        vectors = [load(place(b, long(4 * LANES * v))) for v in range(VECTORS)]
        column = place(a, builder.mul(k, a_along))
        for i, row in enumerate(sums):
            x = spread(place(column, builder.mul(a_down, long(i))))
            for total, y in zip(row, vectors):
                builder.store(multiply_add(x, y, builder.load(total)), total)

    turns = builder.sdiv(depth, long(UNROLL))
    with cgutils.for_range(builder, turns) as loop:
        k = builder.mul(loop.index, long(UNROLL))
        for ahead in range(UNROLL):
            step(builder.add(k, long(ahead)))
    done = builder.mul(turns, long(UNROLL))
    with cgutils.for_range(builder, builder.sub(depth, done)) as loop:
        step(builder.add(done, loop.index))

    with builder.if_else(builder.icmp_signed(">=", columns, long(WIDTH))) as (whole, ragged):
        with whole:
            for i, row in enumerate(sums):
                for v, total in enumerate(row):
                    along = long(4 * LANES * v)
                    before = load(place(start, builder.mul(start_down, long(i)), along))
                    after = builder.fadd(before, builder.load(total))
                    store(after, place(c, builder.mul(c_down, long(i)), along))
        with ragged:  # by way of the stack: beside the last columns lies other memory
            room = cgutils.alloca_once(builder, ir.ArrayType(number, rows * WIDTH))
            stack = builder.bitcast(room, number.as_pointer())
            for i, row in enumerate(sums):
                for v, total in enumerate(row):
                    store(builder.load(total), builder.gep(stack, [long(WIDTH * i + LANES * v)]))
            with cgutils.for_range(builder, long(rows)) as loop:
                i = loop.index
                found = builder.gep(stack, [builder.mul(i, long(WIDTH))])
                before = builder.bitcast(place(start, builder.mul(start_down, i)), number.as_pointer())
                after = builder.bitcast(place(c, builder.mul(c_down, i)), number.as_pointer())
                with cgutils.for_range(builder, columns) as inner:
                    j = [inner.index]
                    total = builder.fadd(builder.load(builder.gep(before, j)), builder.load(builder.gep(found, j)))
                    builder.store(total, builder.gep(after, j))


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
