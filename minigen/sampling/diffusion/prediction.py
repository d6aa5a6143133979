"""What the network predicts, and how to get x_0 and eps from it.

x = alpha x_0 + sigma eps. Of x_0, eps and any mixture of the two, one gives the others:

    epsilon        the noise                         Ho et al. 2020, eq. 14
    sample         the clean picture x_0
    v_prediction   v = alpha eps - sigma x_0         Salimans & Ho 2022, arXiv:2202.00512, appendix D

As losses they differ (by a weight that depends on t), as answers they do not. The predicted x_0 may leave the range
that pictures have; a sampler can push it back (`clip=`): to a fixed range, or by dynamic thresholding.
"""

from dataclasses import dataclass

from ...device import xp
from ...errors import ArgumentError, expect
from ...tensor import Tensor, value

PREDICTIONS = "epsilon", "sample", "v_prediction"


def check_prediction(who, prediction, known=PREDICTIONS):
    expect(prediction in known, f"{who}: prediction is one of {known}", prediction, error=ArgumentError)
    return prediction


def to_x0(prediction, out, x, alpha, sigma):
    """The x_0 that the network's output `out` at x means; alpha and sigma are numbers."""
    if prediction == "sample":
        return out
    if prediction == "epsilon":
        return (x - out * float(sigma)) / float(alpha)
    return x * float(alpha) - out * float(sigma)


def to_eps(prediction, out, x, alpha, sigma):
    """The noise that the network's output `out` at x means."""
    if prediction == "epsilon":
        return out
    if prediction == "sample":
        return (x - out * float(alpha)) / float(sigma)
    return out * float(alpha) + x * float(sigma)


@dataclass(frozen=True)
class DynamicThreshold:
    """Clip x_0 to [-s, s] and divide by s, s being a high quantile of its sizes (Imagen, Saharia et al. 2022, 2.3).

    ratio     which quantile, of each picture by itself
    largest   s is kept between 1 and this
    """

    ratio: float = 0.995
    largest: float = 1.0

    def __call__(self, x0):
        array = value(x0)
        lib = xp(array)
        sizes = lib.abs(array.reshape(len(array), -1))
        s = lib.quantile(sizes, self.ratio, axis=1).astype(array.dtype)
        s = lib.minimum(lib.maximum(s, 1.0), self.largest).reshape(-1, *[1] * (array.ndim - 1))
        return Tensor(lib.clip(array, -s, s) / s)


def limited(x0, clip):
    """x0, clipped to [-clip, clip] for a number, thresholded for a `DynamicThreshold`, as it is for None."""
    if clip is None:
        return x0
    return clip(x0) if callable(clip) else x0.clamp(-float(clip), float(clip))
