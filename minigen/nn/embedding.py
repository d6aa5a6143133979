"""Embedding: a table of vectors, looked up by integers."""

from ..errors import ArgumentError, DtypeError, describe, expect
from ..tensor import Parameter, Tensor
from . import functional as F
from . import init
from .module import Module, new_parameter

__all__ = ["Embedding"]


class Embedding(Module):
    """Integers (...) -> vectors (..., embedding_dim): rows of weight (num_embeddings, embedding_dim), at first N(0, 1).

    padding_idx         this row is zero at first and never gets a gradient
    max_norm            rows looked up are first scaled down, in place, to this norm at most (the `norm_type`-norm)
    scale_grad_by_freq  divide a row's gradient by how often it was looked up in the batch
    """

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        sparse=False,
        _weight=None,
        _freeze=False,
        device=None,
        dtype=None,
    ):
        expect(not sparse, "Embedding: sparse gradients are not supported\n  write sparse=False", error=ArgumentError)
        if padding_idx is not None:
            expect(
                -num_embeddings <= padding_idx < num_embeddings,
                f"Embedding: padding_idx={padding_idx} of {num_embeddings} rows: it must lie within them",
                error=ArgumentError,
            )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        if _weight is None:
            self.weight = new_parameter(num_embeddings, embedding_dim, device=device, dtype=dtype)
            self.reset_parameters()
        else:
            expect(
                _weight.shape == (num_embeddings, embedding_dim),
                f"Embedding: the weight must be {(num_embeddings, embedding_dim)}",
                _weight,
            )
            self.weight = Parameter(_weight)
        self.weight.requires_grad = not _freeze

    @classmethod
    def from_pretrained(
        cls, embeddings, freeze=True, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False
    ):
        """An Embedding over a given table (rows, dim), which it trains only with `freeze=False`."""
        if not isinstance(embeddings, Tensor) or embeddings.ndim != 2:
            raise DtypeError(f"from_pretrained: a tensor of two dimensions is needed, got {describe(embeddings)}")
        return cls(
            *embeddings.shape,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            _weight=embeddings,
            _freeze=freeze,
        )

    def reset_parameters(self):
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, input):
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)

    def extra_repr(self):
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        for name, usual in {
            "padding_idx": None,
            "max_norm": None,
            "norm_type": 2.0,
            "scale_grad_by_freq": False,
        }.items():
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text
