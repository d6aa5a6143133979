"""Data: worlds with known truth, bundled digits, the user's own files, downloads, and the loader.

worlds                     data whose density or entropy can be computed exactly
digits                     1797 real handwritten digits, bundled
standard_library_text      the source of Python's standard library, as text
text_file, ImageFolder     the user's own text and pictures
classic                    MNIST, CIFAR-10, tiny Shakespeare and others, downloaded and checked
Dataset, TensorDataset, Subset, ConcatDataset, random_split
DataLoader                 shuffled batches, fetched ahead, in an order fixed by a seed; resumable
download, extract          checked downloads and safe archives, for sets of your own
"""

from . import classic, worlds
from .archive import extract
from .collate import default_collate
from .dataset import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from .download import cache_dir, download
from .folder import ImageFolder
from .handwritten import digits
from .loader import DataLoader
from .text import standard_library_files, standard_library_text, text_file

__all__ = [
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "ImageFolder",
    "Subset",
    "TensorDataset",
    "cache_dir",
    "classic",
    "default_collate",
    "digits",
    "download",
    "extract",
    "random_split",
    "standard_library_files",
    "standard_library_text",
    "text_file",
    "worlds",
]
