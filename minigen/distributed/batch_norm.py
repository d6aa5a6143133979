"""Batch norm over the rows of all processes, so that several take the steps of one.

The mean of a channel is a sum over rows, and a sum over rows is a sum over processes of the sums of each. Its gradient
flows back the same way: what every process says of the sum, added up.
"""

from ..autograd import no_grad, op
from ..errors import ArgumentError, expect
from ..nn.norm import _BatchNorm
from ..ops.creation import full_like
from ..ops.elementary import rsqrt
from ..ops.joining import cat
from ..tensor import wrote

__all__ = ["SyncBatchNorm"]


@op
def summed(x, group):
    """The sum of everyone's x, on all."""
    y = x.copy()
    group.wait(group.sum_begun(y), "the statistics of batch norm")
    return y


summed.gradient(x=lambda g, group: summed(g, group))


class SyncBatchNorm(_BatchNorm):
    """`nn.BatchNorm1d` to 3d, with the mean and the variance of the rows of all processes of `group` in training.

    model = SyncBatchNorm.convert_sync_batchnorm(model, group)       # before its optimiser is made

    Processes may have different numbers of rows. Each layer waits for the others twice forward and twice back.
    """

    ndims, layout = (2, 3, 4, 5), "(N, C, ...)"

    def __init__(self, num_features, *args, group, **kwargs):
        super().__init__(num_features, *args, **kwargs)
        self.group = group

    @classmethod
    def convert_sync_batchnorm(cls, module, group):
        """`module` with every batch norm layer in it made one over all processes: the same parameters and buffers."""
        if group.size == 1:
            return module
        return cls._converted(module, group.apart())

    @classmethod
    def _converted(cls, module, group):
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            expect(type(module).forward is _BatchNorm.forward, "convert_sync_batchnorm: a batch norm of another kind",
                   module, error=ArgumentError)  # fmt: skip
            made = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats,
                       group=group)  # fmt: skip
            made.weight, made.bias = module.weight, module.bias
            made.running_mean, made.running_var = module.running_mean, module.running_var
            made.num_batches_tracked = module.num_batches_tracked
            return made.train(module.training)
        for name, child in list(module.named_children()):
            setattr(module, name, cls._converted(child, group))
        return module

    def forward(self, input):
        if self.group.size == 1 or not (self.training or self.running_mean is None):
            return super().forward(input)
        self._check(input, self.ndims, self.layout)
        shape = (1, -1) + (1,) * (input.ndim - 2)
        dims = (0, *range(2, input.ndim))
        sums = input.sum(dims)
        rows = input.numel() // input.shape[1]
        sums = summed(cat([sums, full_like(sums[:1].detach(), rows)]), self.group)
        total, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = input - mean.view(shape)
        var = summed((centred * centred).sum(dims), self.group) / total
        self._keep(mean.detach(), var.detach(), total)
        y = centred * rsqrt(var + self.eps).view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape)
        return y if self.bias is None else y + self.bias.view(shape)

    @no_grad()
    def _keep(self, mean, var, total):
        """Move the running statistics towards the batch's, as `_BatchNorm` says."""
        if not (self.training and self.track_running_stats):
            return
        self.num_batches_tracked.data[...] += 1
        share = 1 / int(self.num_batches_tracked.data) if self.momentum is None else self.momentum
        unbiased = var * (total / (total - 1))
        for old, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            old.data[...] += share * (new.data - old.data)
        for buffer in (self.num_batches_tracked, self.running_mean, self.running_var):
            wrote(buffer.data)
