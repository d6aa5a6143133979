"""Memory by address, for kernels: slicing arrays of many dimensions is slow to compile, and slow in a small loop."""

from numba import types
from numba.extending import intrinsic


@intrinsic
def address(typing_context, array):
    """The address of an array's first element."""

    def code(context, builder, signature, arguments):
        structure = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.bitcast(structure.data, context.get_value_type(types.voidptr))

    return types.voidptr(array), code


@intrinsic
def shifted(typing_context, pointer, offset):
    """An address so many bytes further on."""

    def code(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return types.voidptr(pointer, types.int64), code
