"""Which op computes in which type under `autocast`: one table, by the op's name.

    low      products, where a card's tensor cores are ten times as fast and sums are made in float32 anyhow
    float32  what loses its digits in 16 bits, or leaves their range: exponentials, logarithms, powers, sums over many
             numbers, losses
    inside   norms: means, variances and weights in float32, what goes in and out in the type of the input, but for
             layer_norm and rms_norm of float32, whose result has 16 bits: what comes next is a product
    wider    losses of logits, which are many: read as they are, computed and given in float32
    widest   operands that meet: all take the widest type among them

Every other op (reshape, relu, gelu, dropout, pooling, indexing ...) computes in the type that it is given: it needs no
more digits than its input has. float64 is never changed. The lists are PyTorch's for CUDA (docs, "CUDA Op-Specific
Behavior"), where they name the same function, but for two. There layer and group norm give float32, which the next
product narrows again; here their kernels read and write half as many bytes. And there the logits of cross_entropy are
copied to float32, the largest array of a language model; here its kernel widens each number as it reads it.
"""

LOW, FLOAT32, INSIDE, WIDER, WIDEST = "low", "float32", "inside", "wider", "widest"

_OPS = {
    # Products
    LOW: """
        matmul dot linear linear_activation attention
        convolve spread
        rnn gru lstm
    """,
    FLOAT32: """
        exp exp2 expm1 log log2 log10 log1p pow rsqrt reciprocal square root sinh cosh tan asin acos asinh acosh atanh
        erf erfc logaddexp xlogy softplus logsigmoid
        softmax log_softmax logsumexp logcumsumexp
        sum mean prod var cumsum cumprod sum_leading window_sums
        binary_cross_entropy weighted_bce mse l1 smooth_l1 huber bce ctc
        cholesky qr lu eigh svd solve solve_triangular inv pinv det slogdet
    """,
    INSIDE: """
        layer_norm rms_norm group_norm batch_norm batch_norm_eval
    """,
    WIDER: """
        cross_entropy
    """,
    WIDEST: """
        add sub mul div where maximum minimum atan2 hypot copysign remainder fmod floor_divide div_trunc heaviside
        eq ne lt le gt ge
        cat stack
    """,
}

POLICY = {op: kind for kind, names in _OPS.items() for op in names.split()}
