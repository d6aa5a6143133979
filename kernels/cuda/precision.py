"""Whether products of float32 matrices may round what they multiply to TF32: off until somebody asks for it.

    minigen.set_float32_matmul_precision("high")        TF32 from here on
    minigen.set_float32_matmul_precision("highest")     float32, the default

TF32 keeps 10 of the 23 bits of a float32's fraction, so a factor is off by up to one part in 2048; sums stay in
float32. In exchange such a product runs on the tensor cores of a card of compute capability 8.0 or newer. Older cards
have no TF32 and multiply in float32 whatever this says. Every kernel with such products reads `tf32()` when it is
launched; a step captured in a graph keeps what was chosen at its capture.
"""

from . import compile

_on = False


def tf32():
    """Whether float32 products are to use TF32: it is allowed, and the current card has it."""
    return _on and compile.machine.capability >= 80


def is_allowed():
    """What `allow_tf32` was told last."""
    return _on


def allow_tf32(on):
    """Let float32 products use TF32, or forbid it, for the whole process."""
    global _on
    _on = bool(on)
