"""`nn.functional`: the functions that layers are made of, under PyTorch's names. All of them stand in `minigen.ops`."""

# ruff: noqa: F401
import inspect

from .. import errors
from ..ops.activations import (
    celu,
    elu,
    gelu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    rrelu,
    selu,
    silu,
    softplus,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
)
from ..ops.attention import scaled_dot_product_attention
from ..ops.convolution import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from ..ops.counting import one_hot
from ..ops.ctc import ctc_loss
from ..ops.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from ..ops.elementary import sigmoid, tanh
from ..ops.embedding import embedding
from ..ops.entropies import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    kl_div,
    nll_loss,
)
from ..ops.grids import affine_grid, grid_sample
from ..ops.linear import bilinear, linear, linear_activation, linear_between
from ..ops.losses import gaussian_nll_loss, huber_loss, l1_loss, mse_loss, poisson_nll_loss, smooth_l1_loss
from ..ops.margins import (
    cosine_embedding_loss,
    hinge_embedding_loss,
    margin_ranking_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from ..ops.multihead import multi_head_attention_forward
from ..ops.normalization import (
    batch_norm,
    cosine_similarity,
    group_norm,
    group_norm_activation,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
    pairwise_distance,
    rms_norm,
)
from ..ops.padding import pad
from ..ops.patches import channel_shuffle, fold, pixel_shuffle, pixel_unshuffle, unfold
from ..ops.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from ..ops.resampling import interpolate, upsample
from ..ops.softmax import gumbel_softmax, log_softmax, softmax, softmin

# A call that does not fit is answered with what would (see errors.answering).
for _name, _function in list(globals().items()):
    if inspect.isfunction(_function):
        globals()[_name] = errors.answering(_function)
