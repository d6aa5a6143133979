"""How kernels over the rows of a matrix are launched: see rows.cuh."""

from .compile import over

WARPS = 8  # rows a block takes, a warp each
NARROW = 1024  # the widest row that stands in registers, 32 numbers a thread


def plan(rows, width, dtype):
    """(form, grid, block) for a matrix: "narrow_M" or "wide", the number of blocks, and of threads in one."""
    if width <= NARROW:
        return f"narrow_{numbers_per_lane(width, dtype)}", over(rows, WARPS), 32 * WARPS
    return "wide", rows, threads_per_row(width, dtype)


def numbers_per_lane(width, dtype):
    """4, 8, 16 or 32: whole packs of 16 bytes, so many that 32 lanes hold the row."""
    pack = 16 // dtype.itemsize
    return pack << max(over(width, 32 * pack) - 1, 0).bit_length()


def threads_per_row(width, dtype):
    """The threads of a block that takes a row: about four packs each, in whole warps."""
    return max(min(32 * over(width, 32 * 4 * (16 // dtype.itemsize)), 1024), 32)
