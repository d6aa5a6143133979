"""Models: one family a file, one folder a kind. A file holds the paper, the network, the loss and the sampler.

    latent/           a hidden cause behind every x: the variational autoencoder
    gan/              a generator against a discriminator
    autoregressive/   one element after another, by the chain rule: n-grams, recurrent networks, PixelCNN
    flow/             an invertible map to noise, with its exact density
    diffusion/        noise, removed step by step
    transformer/      attention over a sequence

A model is a Module that is built from its configuration:

    from minigen.models.latent.vae import VAE, VAEConfig
    model = VAE(VAEConfig(shape=(1, 8, 8), latent=16))
"""
