"""Text as numbers: tokenizers.

ByteBPE       byte-level BPE, GPT-2's: reads, writes and learns tokenizer.json
Characters    one symbol a character
load(folder)  the tokenizer that a folder holds

bpe.py        byte-pair encoding itself: learning merges and applying them
pieces.py     how a text is cut before that, and the names of bytes
"""

from pathlib import Path

from ..errors import CheckpointError
from .byte_bpe import ByteBPE
from .characters import FILE, Characters

__all__ = ["ByteBPE", "Characters", "load"]


def load(folder):
    """The tokenizer in a folder. Raises CheckpointError where there is none."""
    folder = Path(folder)
    if (folder / FILE).exists():
        return Characters.from_file(folder)
    if any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        return ByteBPE.from_file(folder)
    raise CheckpointError(
        f"{folder} holds no tokenizer: tokenizer.json, vocab.json with merges.txt, or characters.json\n"
        "  copy the one that the model was trained with into the folder"
    )
