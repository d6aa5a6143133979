"""Flows: an invertible map from data to noise, and with it the exact density of every x.

bijection.py               what all layers have in common, and how they compose
base.py                    the noise at the far end
density.py                 FlowModel: both together, with log_prob, sample, encode, decode
coupling.py                additive and affine couplings
scaling.py                 diagonal scaling, actnorm, batch norm
convolution.py             the invertible 1x1 convolution
multiscale.py              squeezing, and factoring out
dequantize.py              whole numbers for models of real ones
networks.py                what stands inside the couplings
nice.py realnvp.py glow.py masked_autoregressive.py    the published models
"""
