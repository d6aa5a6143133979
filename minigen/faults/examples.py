"""One good call of every public function: what rows 5 and 6 spoil, one argument at a time.

`calls()` gives {name: Call}. Functions of one or two tensors alone need no entry here; the others stand in the
tables below. A public function that has no good call is a finding of its own: a new one gets its line here.
"""

import inspect
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Call:
    """function(*args, **kwargs), which works. `name` is what an error about it must say."""

    name: str
    function: object
    args: tuple
    kwargs: dict = field(default_factory=dict)

    def __call__(self):
        return self.function(*self.args, **self.kwargs)

    def replaced(self, place, value):
        """The same call with another value in one place: a position, or a keyword."""
        if isinstance(place, int):
            return Call(self.name, self.function, (*self.args[:place], value, *self.args[place + 1 :]), self.kwargs)
        return Call(self.name, self.function, self.args, {**self.kwargs, place: value})


class Maker:
    """Tensors for examples, the same every time."""

    def __init__(self):
        self.random = np.random.default_rng(0)

    def x(self, *shape, grad=True, low=0.2, high=0.8):
        """Floats, away from the places where functions have kinks or poles unless asked otherwise."""
        from ..tensor import Tensor

        return Tensor(self.random.uniform(low, high, shape).astype(np.float32), requires_grad=grad)

    def n(self, *shape, below=3):
        """Integers from 0 to below - 1."""
        from ..tensor import Tensor

        return Tensor(self.random.integers(0, below, shape))

    def apart(self, rows):
        """Integers (rows, 2), two different ones below 3 in each row: where `scatter` writes, it must write once."""
        from ..tensor import Tensor

        return Tensor(np.array([[i % 3, (i + 1) % 3] for i in range(rows)]))

    def order(self, *shape):
        """The integers from 0 on, each once."""
        from ..tensor import Tensor

        return Tensor(np.arange(np.prod(shape)).reshape(shape))

    def b(self, *shape):
        """Booleans, some of them True."""
        from ..tensor import Tensor

        flags = self.random.random(shape) < 0.5
        flags.reshape(-1)[:1] = True
        return Tensor(flags)


def top_level(make):
    """Arguments of the functions in `minigen`, by name."""
    x, n, b = make.x, make.n, make.b
    return {
        "acosh": (x(2, 3, low=1.2, high=1.8),),
        "addbmm": (x(2, 5), x(4, 2, 3), x(4, 3, 5)),
        "addcdiv": (x(2, 3), x(2, 3), x(2, 3)),
        "addcmul": (x(2, 3), x(2, 3), x(2, 3)),
        "addmm": (x(2, 5), x(2, 3), x(3, 5)),
        "addmv": (x(2), x(2, 3), x(3)),
        "addr": (x(2, 3), x(2), x(3)),
        "arange": (5,),
        "baddbmm": (x(4, 2, 5), x(4, 2, 3), x(4, 3, 5)),
        "bincount": (n(6),),
        "bmm": (x(4, 2, 3), x(4, 3, 5)),
        "bitwise_and": (n(2, 3), n(2, 3)),
        "bitwise_not": (n(2, 3),),
        "bitwise_or": (n(2, 3), n(2, 3)),
        "bitwise_xor": (n(2, 3), n(2, 3)),
        "broadcast_tensors": (x(2, 3), x(3)),
        "broadcast_to": (x(3), (2, 3)),
        "bucketize": (x(2, 3, grad=False), x(4, grad=False)),
        "cat": ([x(2, 3), x(2, 3)],),
        "chunk": (x(4, 3), 2),
        "clamp": (x(2, 3), 0.3, 0.6),
        "concat": ([x(2, 3), x(2, 3)],),
        "concatenate": ([x(2, 3), x(2, 3)],),
        "cross": (x(2, 3), x(2, 3)),
        "cummax": (x(2, 3), 1),
        "cummin": (x(2, 3), 1),
        "cumprod": (x(2, 3), 1),
        "cumsum": (x(2, 3), 1),
        "diag": (x(3, 3),),
        "diagonal": (x(3, 3),),
        "dot": (x(3), x(3)),
        "dstack": ([x(2, 3), x(2, 3)],),
        "einsum": ("ij,jk->ik", x(2, 3), x(3, 4)),
        "empty": (2, 3),
        "eye": (3,),
        "flip": (x(2, 3), (0,)),
        "full": ((2, 3), 0.5),
        "full_like": (x(2, 3), 0.5),
        "gather": (x(3, 3), 1, n(3, 2)),
        "ger": (x(2), x(3)),
        "hstack": ([x(2, 3), x(2, 3)],),
        "index_add": (x(3, 3), 0, n(2), x(2, 3)),
        "index_copy": (x(3, 3), 0, n(1), x(1, 3)),
        "index_fill": (x(3, 3), 0, n(2), 0.5),
        "index_put": (x(3, 3), (n(2), n(2)), x(2)),
        "index_select": (x(3, 3), 0, n(2)),
        "inner": (x(2, 3), x(4, 3)),
        "kron": (x(2, 2), x(2, 3)),
        "kthvalue": (x(2, 3), 2),
        "lerp": (x(2, 3), x(2, 3), 0.5),
        "linspace": (0.0, 1.0, 5),
        "logical_and": (b(2, 3), b(2, 3)),
        "logcumsumexp": (x(2, 3), 1),
        "logspace": (0.0, 1.0, 5),
        "logsumexp": (x(2, 3), 1),
        "masked_fill": (x(2, 3), b(2, 3), 0.5),
        "masked_scatter": (x(2, 3), b(2, 3), x(6)),
        "masked_select": (x(2, 3), b(2, 3)),
        "matmul": (x(2, 3), x(3, 4)),
        "meshgrid": (x(2), x(3)),
        "mm": (x(2, 3), x(3, 4)),
        "moveaxis": (x(2, 3), 0, 1),
        "movedim": (x(2, 3), 0, 1),
        "multinomial": (x(2, 3, grad=False), 2),
        "mv": (x(2, 3), x(3)),
        "narrow": (x(3, 3), 0, 1, 2),
        "one_hot": (n(4), 3),
        "ones": (2, 3),
        "outer": (x(2), x(3)),
        "permute": (x(2, 3), (1, 0)),
        "rand": (2, 3),
        "randint": (0, 5, (2, 3)),
        "randint_like": (x(2, 3, grad=False), 5),
        "randn": (2, 3),
        "randperm": (5,),
        "repeat_interleave": (x(2, 3), 2),
        "reshape": (x(2, 3), (3, 2)),
        "roll": (x(2, 3), 1, 0),
        "scatter": (x(3, 3), 1, make.apart(3), x(3, 2)),
        "scatter_add": (x(3, 3), 1, n(3, 2), x(3, 2)),
        "scatter_reduce": (x(3, 3), 1, n(3, 2), x(3, 2), "sum"),
        "searchsorted": (x(4, grad=False), x(2, 3, grad=False)),
        "select": (x(2, 3), 0, 1),
        "softmax": (x(2, 3), 1),
        "log_softmax": (x(2, 3), 1),
        "split": (x(4, 3), 2),
        "stack": ([x(2, 3), x(2, 3)],),
        "swapaxes": (x(2, 3), 0, 1),
        "swapdims": (x(2, 3), 0, 1),
        "take": (x(2, 3), n(2)),
        "take_along_dim": (x(3, 3), n(3, 2), 1),
        "tensor_split": (x(4, 3), 2),
        "tensordot": (x(2, 3), x(3, 4), 1),
        "tile": (x(2, 3), (2, 1)),
        "topk": (x(2, 3), 2),
        "trace": (x(3, 3),),
        "transpose": (x(2, 3), 0, 1),
        "unflatten": (x(2, 6), 1, (2, 3)),
        "unsqueeze": (x(2, 3), 0),
        "vander": (x(3),),
        "vdot": (x(3), x(3)),
        "vstack": ([x(2, 3), x(2, 3)],),
        "where": (b(2, 3), x(2, 3), x(2, 3)),
        "zeros": (2, 3),
    }  # fmt: skip


def functional(make):
    """Arguments of the functions in `minigen.nn.functional`, by name."""
    x, n = make.x, make.n
    image, probability = x(2, 4, 6, 6), lambda *shape: x(*shape, grad=False)
    return {
        "adaptive_avg_pool1d": (x(2, 4, 6), 2),
        "adaptive_avg_pool2d": (image, 2),
        "adaptive_avg_pool3d": (x(1, 2, 4, 4, 4), 2),
        "adaptive_max_pool1d": (x(2, 4, 6), 2),
        "adaptive_max_pool2d": (image, 2),
        "adaptive_max_pool3d": (x(1, 2, 4, 4, 4), 2),
        "affine_grid": (x(2, 2, 3), (2, 4, 6, 6)),
        "alpha_dropout": (x(2, 3), 0.5),
        "avg_pool1d": (x(2, 4, 6), 2),
        "avg_pool2d": (image, 2),
        "avg_pool3d": (x(1, 2, 4, 4, 4), 2),
        "batch_norm": (image, x(4, grad=False), x(4, grad=False), x(4), x(4)),
        "bilinear": (x(5, 2), x(5, 3), x(4, 2, 3)),
        "binary_cross_entropy": (x(2, 3), probability(2, 3)),
        "binary_cross_entropy_with_logits": (x(2, 3), probability(2, 3)),
        "cdist": (x(2, 3), x(4, 3)),
        "channel_shuffle": (image, 2),
        "conv1d": (x(2, 4, 6), x(3, 4, 3)),
        "conv2d": (image, x(3, 4, 3, 3)),
        "conv3d": (x(1, 2, 4, 4, 4), x(3, 2, 2, 2, 2)),
        "conv_transpose1d": (x(2, 4, 6), x(4, 3, 3)),
        "conv_transpose2d": (image, x(4, 3, 3, 3)),
        "conv_transpose3d": (x(1, 2, 4, 4, 4), x(2, 3, 2, 2, 2)),
        "cosine_embedding_loss": (x(4, 3), x(4, 3), n(4, below=2) * 2 - 1),
        "cross_entropy": (x(4, 3), n(4)),
        "ctc_loss": (x(6, 2, 3).log(), n(2, 2, below=2) + 1, n(2, below=1) + 6, n(2, below=1) + 2),
        "dropout2d": (image,),
        "dropout3d": (x(1, 2, 4, 4, 4),),
        "embedding": (n(2, 3), x(3, 4)),
        "embedding_bag": (n(2, 3), x(3, 4)),
        "fold": (x(2, 16, 9), (4, 4), 2),
        "gaussian_nll_loss": (x(2, 3), x(2, 3), x(2, 3)),
        "glu": (x(2, 4),),
        "grid_sample": (image, x(2, 3, 3, 2)),
        "group_norm": (image, 2),
        "hardtanh": (x(2, 3),),
        "hinge_embedding_loss": (x(4, 3), n(4, 3, below=2) * 2 - 1),
        "instance_norm": (image,),
        "interpolate": (image, (3, 3)),
        "layer_norm": (x(2, 3), (3,), x(3), x(3)),
        "linear": (x(2, 3), x(4, 3), x(4)),
        "local_response_norm": (image, 3),
        "log_softmax": (x(2, 3), 1),
        "gumbel_softmax": (x(2, 3),),
        "lp_pool1d": (x(2, 4, 6), 2.0, 2),
        "lp_pool2d": (image, 2.0, 2),
        "lp_pool3d": (x(1, 2, 4, 4, 4), 2.0, 2),
        "margin_ranking_loss": (x(4), x(4), n(4, below=2) * 2 - 1),
        "max_pool1d": (x(2, 4, 6), 2),
        "max_pool2d": (image, 2),
        "max_pool3d": (x(1, 2, 4, 4, 4), 2),
        "max_unpool1d": (x(1, 1, 2), make.order(1, 1, 2), 2),
        "max_unpool2d": (x(1, 1, 2, 2), make.order(1, 1, 2, 2), 2),
        "max_unpool3d": (x(1, 1, 1, 1, 1), n(1, 1, 1, 1, 1), 2),
        "multi_head_attention_forward": (
            x(3, 2, 4), x(3, 2, 4), x(3, 2, 4), 4, 2, x(12, 4), x(12), None, None, False, 0.0, x(4, 4), x(4),
        ),
        "multi_margin_loss": (x(4, 3), n(4)),
        "multilabel_margin_loss": (x(4, 3), n(4, 3)),
        "multilabel_soft_margin_loss": (x(4, 3), n(4, 3, below=2)),
        "nll_loss": (x(4, 3), n(4)),
        "normalize": (x(2, 3),),
        "one_hot": (n(4), 3),
        "pad": (x(2, 3), (1, 1)),
        "pixel_shuffle": (image, 2),
        "pixel_unshuffle": (image, 2),
        "poisson_nll_loss": (x(2, 3), x(2, 3)),
        "prelu": (image, x(4)),
        "rms_norm": (x(2, 3), (3,)),
        "scaled_dot_product_attention": (x(2, 4, 3), x(2, 4, 3), x(2, 4, 3)),
        "soft_margin_loss": (x(4, 3), n(4, 3, below=2) * 2 - 1),
        "softmax": (x(2, 3), 1),
        "softmin": (x(2, 3), 1),
        "threshold": (x(2, 3), 0.5, 0.0),
        "group_norm_activation": (image, 2, x(4), x(4)),
        "linear_activation": (x(2, 3), x(4, 3), x(4)),
        "linear_between": (x(2, 3), x(4, 3), x(4)),
        "triplet_margin_loss": (x(4, 3), x(4, 3), x(4, 3)),
        "triplet_margin_with_distance_loss": (x(4, 3), x(4, 3), x(4, 3)),
        "unfold": (image, 2),
        "upsample": (image, (3, 3)),
    }  # fmt: skip


def layers(make):
    """{name: (arguments of the constructor, input)} of the layers in `minigen.nn` whose input is not a (2, 3)."""
    x, n = make.x, make.n
    row, image, volume = x(2, 4, 6), x(2, 4, 6, 6), x(1, 2, 4, 4, 4)
    return {
        "Linear": ((3, 4), (x(2, 3),)),
        "Bilinear": ((2, 3, 4), (x(5, 2), x(5, 3))),
        "Conv1d": ((4, 3, 3), (row,)),
        "Conv2d": ((4, 3, 3), (image,)),
        "Conv3d": ((2, 3, 2), (volume,)),
        "ConvTranspose1d": ((4, 3, 3), (row,)),
        "ConvTranspose2d": ((4, 3, 3), (image,)),
        "ConvTranspose3d": ((2, 3, 2), (volume,)),
        "Embedding": ((3, 4), (n(2, 3),)),
        "BatchNorm1d": ((4,), (row,)),
        "BatchNorm2d": ((4,), (image,)),
        "GroupNorm": ((2, 4), (image,)),
        "InstanceNorm2d": ((4,), (image,)),
        "LayerNorm": ((3,), (x(2, 3),)),
        "RMSNorm": ((3,), (x(2, 3),)),
        "MaxPool2d": ((2,), (image,)),
        "AvgPool2d": ((2,), (image,)),
        "PixelShuffle": ((2,), (image,)),
        "RNN": ((3, 4), (x(5, 2, 3),)),
        "LSTM": ((3, 4), (x(5, 2, 3),)),
        "GRU": ((3, 4), (x(5, 2, 3),)),
        "RNNCell": ((3, 4), (x(2, 3),)),
        "LSTMCell": ((3, 4), (x(2, 3),)),
        "GRUCell": ((3, 4), (x(2, 3),)),
        "MultiheadAttention": ((4, 2), (x(3, 2, 4), x(3, 2, 4), x(3, 2, 4))),
        "TransformerEncoderLayer": ((4, 2, 8), (x(3, 2, 4),)),
        "TransformerDecoderLayer": ((4, 2, 8), (x(3, 2, 4), x(3, 2, 4))),
        "PReLU": ((), (x(2, 3),)),
        "Upsample": ((None, 2), (image,)),
        "Softmax": ((1,), (x(2, 3),)),
        "Dropout": ((0.5,), (x(2, 3),)),
    }


def calls():
    """{name: Call} of every public function and of the layers above; and [names without a good call]."""
    import minigen
    from minigen import nn
    from minigen.nn import functional as F
    from minigen.ops.methods import PUBLIC

    make, found, missing = Maker(), {}, []
    given = top_level(make)
    names = [name for listed in PUBLIC.values() for name in listed.split()]
    for name in names:
        _add(found, missing, name, name, getattr(minigen, name), given.get(name), make)
    given = functional(make)
    for name in [name for name in dir(F) if not name.startswith("_")]:
        function = getattr(F, name)
        if inspect.ismodule(function) or not callable(function) or isinstance(function, type) or name in names:
            continue
        if getattr(function, "__module__", "minigen").startswith("minigen"):
            _add(found, missing, f"functional.{name}", name, function, given.get(name), make)
    for name, (arguments, inputs) in layers(make).items():
        layer = getattr(nn, name, None)
        if layer is not None:
            _add(found, missing, f"nn.{name}", name, layer(*arguments), inputs, make)
    return found, missing


def _add(found, missing, key, name, function, arguments, make):
    choices = [arguments] if arguments is not None else [(make.x(2, 3),), (make.x(2, 3), make.x(2, 3))]
    for choice in choices:
        call = Call(name, function, choice)
        try:
            call()
        except Exception:
            continue
        found[key] = call
        return
    missing.append(key)
