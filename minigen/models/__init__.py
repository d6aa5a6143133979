"""Models, one family a file: the paper, the network, the loss, the sampler.

from minigen.models import vae
model = vae.VAE(vae.VAEConfig(shape=(1, 8, 8), latent=16))

vae    the variational autoencoder
"""
