"""The U-Net of latent diffusion and Stable Diffusion (Rombach et al. 2022, arXiv:2112.10752).

The U-Net of unet.py with transformers in the place of its attention (transformer2d.py): besides t it is told a
context, such as the words of a caption as a text encoder has them.

    ConditionalUNetConfig   sizes; from and to the published form (diffusers' UNet2DConditionModel)
    ConditionalUNet         network(x, t, context) -> (N, out_channels, H, W)
"""

from dataclasses import dataclass

from ... import nn
from ...errors import ArgumentError, CheckpointError, ShapeError, expect
from ...tensor import Tensor, value
from .blocks import ACTIVATIONS, BEHIND, FourierFeatures, MidBlock, Style, TimeEmbedding
from .transformer2d import Transformer2d
from .unet import UNet, UNetConfig, block_types, per_size, published_shape, shared_from, shared_to

FORBIDDEN = -10_000.0  # what is added to the score of a word that is padding
PROJECTIONS = "two_layers", "one_layer"


@dataclass
class ConditionalUNetConfig(UNetConfig):
    """The sizes of a conditional U-Net, beside those of UNetConfig. The defaults are Stable Diffusion's.

    attention         whether there are transformers, at each size
    context_size      of a row of the context; one for all, or one for each size
    heads             of each attention: their number, not their size; one for all, or one for each size
    depth             blocks in each transformer; one for all, or one for each size
    linear, only_cross   of the transformers (see Transformer2d); only_cross also one for each size
    layers            also one for each size
    middle            "attention" (a transformer between two ResBlocks), "plain" (a single ResBlock), None for nothing
    text_size         of a row as it is given, where a linear layer is to bring it to context_size
    class_embedding   also "two_layers" or "one_layer" on a vector of `class_size`
    kernels           of the first and the last convolution
    """

    shape: tuple = (4, 64, 64)
    channels: tuple = (320, 640, 1280, 1280)
    attention: tuple = (True, True, True, False)
    layers: int | tuple = 2
    eps: float = 1e-5
    context_size: int | tuple = 768
    heads: int | tuple = 8
    depth: int | tuple = 1
    linear: bool = False
    only_cross: bool | tuple = False
    text_size: int | None = None
    class_size: int | None = None
    kernels: tuple = (3, 3)

    def __post_init__(self):
        kind = self.class_embedding
        if kind in PROJECTIONS:
            self.class_embedding = "vector"
            expect(self.class_size, f"ConditionalUNetConfig: class_embedding={kind!r} needs class_size",
                   self.class_size, error=ArgumentError)  # fmt: skip
        super().__post_init__()
        self.class_embedding = kind
        for name in ("context_size", "heads", "depth", "only_cross"):
            setattr(self, name, per_size(getattr(self, name), len(self.channels), "ConditionalUNetConfig", name))
        expect(self.time != "learned", 'ConditionalUNetConfig: time is "sinusoid" or "fourier"', error=ArgumentError)


class ConditionalUNet(UNet):
    """x (N, C, H, W), t a number or (N,), context (N, S, context_size) -> (N, out_channels, H, W).

    mask (N, S): 1 or True where there is a word, 0 where there is padding. labels are as in UNet, but for vectors.
    """

    config_class = ConditionalUNetConfig

    def __init__(self, config=None, **sizes):
        super().__init__(config, **sizes)
        first, last = self.config.kernels
        if first != 3:
            self.conv_in = nn.Conv2d(self.config.shape[0], self.config.channels[0], first, padding=(first - 1) // 2)
        if last != 3:
            out = nn.Conv2d(self.config.channels[0], self.config.out_channels, last, padding=(last - 1) // 2)
            self.conv_out = self.config.style.last(out)
        self.last_activation = BEHIND[self.config.activation]
        if self.config.text_size is not None:
            self.encoder_hid_proj = nn.Linear(self.config.text_size, self.config.context_size[0])

    def _embed_time(self, config):
        first = features = config.channels[0]
        self.time_size = config.time_size or (2 if config.time == "fourier" else 4) * first
        if config.time == "fourier":
            features = self.time_size
            self.time_proj = FourierFeatures(features // 2, cosine_first=config.cosine_first)
        self.time_embedding = TimeEmbedding(features, self.time_size, config.activation)
        return features

    def _embed_class(self, config, features):
        super()._embed_class(config, features)
        if config.class_embedding == "timestep":
            self.class_embedding.activation = ACTIVATIONS[config.activation]
        elif config.class_embedding == "two_layers":
            self.class_embedding = TimeEmbedding(config.class_size, self.time_size)
        elif config.class_embedding == "one_layer":
            self.class_embedding = nn.Linear(config.class_size, self.time_size)

    def attention_at(self, i, up):
        config = self.config
        if not (config.attention_up if up else config.attention)[i]:
            return None
        return self._transformer(len(config.channels) - 1 - i if up else i, config.only_cross)

    def _transformer(self, i, only_cross):
        """What makes the transformers of size i, counted on the way down."""
        config = self.config

        def transformer(channels):
            return Transformer2d(channels, config.heads[i], config.context_size[i], config.depth[i], config.groups,
                                 config.linear, only_cross[i], config.zero)  # fmt: skip

        return transformer

    def middle(self, channels, size):
        config = self.config
        style = Style(**{**vars(config.style), "divisor": config.middle_divisor})
        if config.middle == "plain":
            return MidBlock(channels, size, style, pairs=0)
        return MidBlock(channels, size, style, self._transformer(-1, [False] * len(config.channels)))

    # Calling it

    def forward(self, x, t, context, labels=None, mask=None):
        self._check(x)
        time = self.embedded(x, self._times(t, x), labels)
        if self.config.text_size is not None:
            context = self.encoder_hid_proj(context)
        return self.run(x, time, context, None if mask is None else self._added(mask, x, context))

    def features(self, t):
        if self.config.time == "fourier":  # of t itself, not of its logarithm
            return self.time_proj(t.to(self.time_proj.weight.dtype))
        return super().features(t)

    def label_embedded(self, x, labels):
        if self.config.class_embedding not in PROJECTIONS:
            return super().label_embedded(x, labels)
        wanted = (len(x), self.config.class_size)
        given = None if labels is None else tuple(labels.shape)
        expect(given == wanted, f"ConditionalUNet: labels are vectors {wanted}", labels, error=ShapeError)
        return self.class_embedding(labels.to(x.dtype))

    def _added(self, mask, x, context):
        """The mask as what is added to the scores, (N, 1, 1, S)."""
        mask = value(mask)
        expect(tuple(mask.shape) == tuple(context.shape[:2]), "ConditionalUNet: mask is (N, S)", mask, context,
               error=ShapeError)  # fmt: skip
        return Tensor(((1 - mask.astype(x.dtype)) * FORBIDDEN).astype(x.dtype)[:, None, None])

    # The published form: UNet2DConditionModel of diffusers

    @classmethod
    def config_from(cls, published):
        for key, *values in ONLY:
            published.only(key, *values)
        attention, resample = zip(*[DOWN[name] for name in block_types(published, "down_block_types", DOWN)])
        attention_up, resample_up = zip(*[UP[name] for name in block_types(published, "up_block_types", UP)])
        expect("resnet" not in resample + resample_up or not published.get("resnet_skip_time_act"),
               f"{published.name}: resnet_skip_time_act is not implemented", error=CheckpointError)  # fmt: skip
        middle = None
        if published.get("mid_block_type", "UNetMidBlock2DCrossAttn") is not None:
            middle = published.choice("mid_block_type", MIDDLE, "UNetMidBlock2DCrossAttn")
        text = published.integer("encoder_hid_dim", None, least=1)
        expect(text or published.get("encoder_hid_dim_type") is None,
               f"{published.name}: encoder_hid_dim_type without encoder_hid_dim", error=CheckpointError)  # fmt: skip
        return ConditionalUNetConfig(
            shape=published_shape(published, 4),
            channels=published.integers("block_out_channels", (320, 640, 1280, 1280), least=1),
            attention=attention,
            attention_up=attention_up,
            resample=resample,
            resample_up=resample_up,
            layers=_integers(published, "layers_per_block", 2),
            out_channels=published.integer("out_channels", 4, least=1),
            groups=published.integer("norm_num_groups", 32, least=1),
            scale_shift=published.choice("resnet_time_scale_shift", {"default": False, "scale_shift": True}, "default"),
            middle=middle,
            middle_divisor=published.number("mid_block_scale_factor", 1.0),
            time=published.choice(
                "time_embedding_type", {"positional": "sinusoid", "fourier": "fourier"}, "positional"
            ),
            context_size=_integers(published, "cross_attention_dim", 1280),
            heads=_integers(published, "attention_head_dim", 8),
            depth=_integers(published, "transformer_layers_per_block", 1),
            linear=published.flag("use_linear_projection", False),
            only_cross=_flags(published, "only_cross_attention", False),
            text_size=text,
            class_size=published.integer("projection_class_embeddings_input_dim", None, least=1),
            kernels=tuple(published.integer(f"conv_{end}_kernel", 3, least=1, most=99) for end in ("in", "out")),
            **shared_from(published, {"projection": "two_layers", "simple_projection": "one_layer"}),
        )

    def config_to(self):
        config = self.config
        return {
            "_class_name": "UNet2DConditionModel",
            "in_channels": config.shape[0],
            "out_channels": config.out_channels,
            "down_block_types": _names(DOWN, config.attention, config.resample),
            "up_block_types": _names(UP, config.attention_up, config.resample_up),
            "mid_block_type": {ours: theirs for theirs, ours in MIDDLE.items()}.get(config.middle),
            "mid_block_scale_factor": config.middle_divisor,
            "layers_per_block": _short(config.layers),
            "norm_num_groups": config.groups,
            "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
            "time_embedding_type": "positional" if config.time == "sinusoid" else "fourier",
            "cross_attention_dim": _short(config.context_size),
            "attention_head_dim": _short(config.heads),
            "transformer_layers_per_block": _short(config.depth),
            "use_linear_projection": config.linear,
            "only_cross_attention": _short(config.only_cross),
            "encoder_hid_dim": config.text_size,
            "encoder_hid_dim_type": None if config.text_size is None else "text_proj",
            "projection_class_embeddings_input_dim": config.class_size,
            "conv_in_kernel": config.kernels[0],
            "conv_out_kernel": config.kernels[1],
            **shared_to(config, {"two_layers": "projection", "one_layer": "simple_projection"}),
        }


DOWN = {
    "DownBlock2D": (False, "conv"),
    "CrossAttnDownBlock2D": (True, "conv"),
    "ResnetDownsampleBlock2D": (False, "resnet"),
}
UP = {"UpBlock2D": (False, "conv"), "CrossAttnUpBlock2D": (True, "conv"), "ResnetUpsampleBlock2D": (False, "resnet")}
MIDDLE = {"UNetMidBlock2DCrossAttn": "attention", "UNetMidBlock2D": "plain"}
ONLY = (  # options of the published class, and the only values of them that are implemented
    ("num_attention_heads", None),
    ("dual_cross_attention", False),
    ("addition_embed_type", None),
    ("addition_time_embed_dim", None),
    ("encoder_hid_dim_type", None, "text_proj"),
    ("resnet_out_scale_factor", 1.0, 1),
    ("time_embedding_act_fn", None),
    ("timestep_post_act", None),
    ("time_cond_proj_dim", None),
    ("attention_type", "default"),
    ("class_embeddings_concat", False),
    ("cross_attention_norm", None),
    ("reverse_transformer_layers_per_block", None),
)


def _names(names, attention, resample):
    """The published names of the blocks at each size."""
    known = {meaning: name for name, meaning in names.items()}
    wanted = list(zip(attention, resample))
    rule = 'ConditionalUNet: a published U-Net with transformers at a size is resampled by "conv" there'
    expect(all(pair in known for pair in wanted), rule, resample, error=CheckpointError)
    return [known[pair] for pair in wanted]


def _integers(published, key, default):
    read = published.integers if isinstance(published.get(key), list) else published.integer
    return read(key, default, least=1, most=2**20)


def _flags(published, key, default):
    given = published.get(key, default)
    if isinstance(given, list) and all(type(flag) is bool for flag in given):
        return tuple(given)
    return published.flag(key, default)


def _short(given):
    """A setting for each size as the file has it: one number where they are all the same."""
    if not isinstance(given, tuple):
        return given
    return given[0] if len(set(given)) == 1 else list(given)
