"""The U-Net of denoising diffusion (Ho, Jain & Abbeel 2020, arXiv:2006.11239, appendix B).

The network sees a noised picture x_t and t, and answers in the shape of the picture. On the way down the picture gets
smaller and its channels more, on the way up it grows again, and at every size the way up is handed what the way down
had there (Ronneberger et al. 2015, arXiv:1505.04597): the small pictures know what it is, the large ones where. t is
told to every block, and so is the class, if there are classes. At some sizes the pixels attend to each other.

    UNetConfig   sizes; from and to the published form (diffusers' UNet2DModel)
    UNet         network(x, t, labels) -> (N, out_channels, H, W)
"""

from dataclasses import dataclass

import numpy as np

from ... import nn
from ...device import device_of, xp
from ...errors import ArgumentError, CheckpointError, ShapeError, expect
from ...nn.weight_map import WeightMap
from ...published import Pretrained
from ...tensor import Tensor, value
from .blocks import (
    ACTIVATIONS,
    Attention2d,
    DownBlock,
    FourierFeatures,
    MidBlock,
    Style,
    TimeEmbedding,
    UpBlock,
    time_features,
)

RESAMPLE = "conv", "resnet"
MIDDLES = "attention", "plain", None
CLASS_EMBEDDINGS = "table", "timestep", "vector"
TIMES = "sinusoid", "fourier", "learned"


@dataclass
class UNetConfig:
    """The sizes of a U-Net. The defaults are the paper's for 32 x 32 pictures; small ones: channels=(32, 64), groups=8.

    shape          (C, H, W) of one x. The network takes other H and W too; they may be None
    channels       at each size, from the largest picture to the smallest
    attention      whether there is attention, at each size; attention_up on the way up (None: the same)
    layers         ResBlocks at each size on the way down; one more on the way up
    classes        0 for none, otherwise labels are 0 to classes - 1
    out_channels   None: as many as x has
    head_size      channels of an attention head; None: one head
    groups, eps, activation, dropout, scale_shift     of the ResBlocks (see Style in blocks.py)
    resample       "conv" or "resnet": how the size is halved and doubled; one for all, or one for each size.
                   resample_up on the way up (None: the same)
    middle         at the smallest size: "attention" between two ResBlocks, "plain" without it, None for nothing
    class_embedding   "table", "timestep" (labels are numbers, embedded like t) or "vector" (labels are embeddings)
    time           "sinusoid", "fourier" (random frequencies of log t; the answer is divided by t) or "learned" (a table
                   of `times`)
    time_size      of the embedding of t; None: four times the first channels
    cosine_first, frequency_shift    of the sinusoid (see time_features)
    padding        of the halving convolutions; 0 as in the paper's code
    middle_divisor, middle_groups    of the middle; middle_groups None: as elsewhere (no norm with scale_shift)
    centred        x from 0 to 1 is first taken to -1 to 1
    zero           new networks start as zero (see Style)
    """

    shape: tuple = (3, 32, 32)
    channels: tuple = (128, 256, 256, 256)
    attention: tuple = (False, True, False, False)
    layers: int = 2
    classes: int = 0
    out_channels: int | None = None
    head_size: int | None = None
    groups: int = 32
    eps: float = 1e-6
    activation: str = "silu"
    dropout: float = 0.0
    scale_shift: bool = False
    resample: str | tuple = "conv"
    middle: str | None = "attention"
    attention_up: tuple | None = None
    resample_up: str | tuple | None = None
    class_embedding: str = "table"
    time: str = "sinusoid"
    times: int | None = None
    time_size: int | None = None
    cosine_first: bool = True
    frequency_shift: int = 0
    padding: int = 1
    middle_divisor: float = 1.0
    middle_groups: int | None = None
    centred: bool = False
    zero: bool = True

    def __post_init__(self):
        self.shape, self.channels = tuple(self.shape), tuple(self.channels)
        who, n = type(self).__name__, len(self.channels)
        expect(len(self.shape) == 3, f"{who}: shape is (C, H, W)", self.shape, error=ArgumentError)
        expect(n > 0 and self.layers != 0, f"{who}: channels for at least one size, and layers", self.channels,
               error=ArgumentError)  # fmt: skip
        self.attention = per_size(self.attention, n, who, "attention")
        self.resample = per_size(self.resample, n, who, "resample")
        up = self.attention[::-1] if self.attention_up is None else self.attention_up
        self.attention_up = per_size(up, n, who, "attention_up")
        up = self.resample[::-1] if self.resample_up is None else self.resample_up
        self.resample_up = per_size(up, n, who, "resample_up")
        self.out_channels = self.out_channels or self.shape[0]
        for name, known in (("middle", MIDDLES), ("class_embedding", CLASS_EMBEDDINGS), ("time", TIMES),
                            ("activation", tuple(ACTIVATIONS))):  # fmt: skip
            given = getattr(self, name)
            expect(given in known, f"{who}: {name} is one of {known}", given, error=ArgumentError)
        for kind in (*self.resample, *self.resample_up):
            expect(kind in RESAMPLE, f"{who}: resample is one of {RESAMPLE}", kind, error=ArgumentError)
        expect(self.time != "learned" or self.times, f'{who}: time="learned" needs `times`, the size of the table',
               self.times, error=ArgumentError)  # fmt: skip

    @property
    def style(self):
        return Style(self.groups, self.eps, self.activation, self.dropout, self.scale_shift, zero=self.zero)


def per_size(given, n, who, name):
    """A setting for each of n sizes: `given` for all, or a tuple of n."""
    given = tuple(given) if isinstance(given, (tuple, list)) else (given,) * n
    rule = f"{who}: {name} is one for all sizes or one for each of the {n} in channels"
    expect(len(given) == n, rule, given, error=ArgumentError)
    return given


class UNet(Pretrained, nn.Module):
    """x (N, C, H, W), t a number or (N,), labels (N,) int64 (None without classes) -> (N, out_channels, H, W).

    H and W need not be powers of 2, but each halving wants an even size to lose nothing. Raises ShapeError for another
    x or t, ArgumentError for labels that are missing, too many or out of range.
    """

    config_class = UNetConfig

    def __init__(self, config=None, **sizes):
        self.config = config = config or self.config_class(**sizes)
        self.conv_in = nn.Conv2d(config.shape[0], config.channels[0], 3, padding=1)
        features = self._embed_time(config)
        self._embed_class(config, features)
        self._build(config)
        self.conv_norm_out = config.style.norm(config.channels[0])
        self.last_activation = "silu"
        self.conv_out = config.style.last(nn.Conv2d(config.channels[0], config.out_channels, 3, padding=1))

    def _embed_time(self, config):
        """Make the embedding of t; returns the number of its features."""
        first = config.channels[0]
        self.time_size = config.time_size or 4 * first
        features = first
        if config.time == "fourier":
            self.time_proj, features = FourierFeatures(first, 16.0), 2 * first
        elif config.time == "learned":
            self.time_proj = nn.Embedding(config.times, first)
        self.time_embedding = TimeEmbedding(features, self.time_size)
        return features

    def _embed_class(self, config, features):
        self.class_embedding = None
        if config.class_embedding == "timestep":
            self.class_embedding = TimeEmbedding(features, self.time_size)
        elif config.class_embedding == "table" and config.classes:
            self.class_embedding = nn.Embedding(config.classes, self.time_size)

    def _build(self, config):
        """The way down, the middle and the way up."""
        n, layers = len(config.channels), per_size(config.layers, len(config.channels), "UNet", "layers")
        style, size, skips = config.style, self.blocks_time_size, [config.channels[0]]
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        before = config.channels[0]
        for i, channels in enumerate(config.channels):
            down = config.resample[i] if i < n - 1 else None
            self.down_blocks.append(DownBlock(before, channels, size, style, layers[i], self.attention_at(i, up=False),
                                              down, config.padding))  # fmt: skip
            skips += [channels] * (layers[i] + (down is not None))
            before = channels
        self.mid_block = None if config.middle is None else self.middle(before, size)
        for i, channels in enumerate(config.channels[::-1]):
            count = layers[::-1][i] + 1
            mine, skips = skips[: -count - 1 : -1], skips[:-count]
            up = config.resample_up[i] if i < n - 1 else None
            self.up_blocks.append(UpBlock(before, channels, size, style, mine, self.attention_at(i, up=True), up))
            before = channels

    @property
    def blocks_time_size(self):
        return self.time_size

    def attention_at(self, i, up):
        """The attention at size i of the way down or up, as a function channels -> module; None for none."""
        config = self.config
        if not (config.attention_up if up else config.attention)[i]:
            return None
        return lambda channels: Attention2d(channels, config.head_size, config.style, config.groups)

    def middle(self, channels, size):
        config = self.config
        groups = config.middle_groups or (None if config.scale_shift else config.groups)
        style = Style(**{**vars(config.style), "divisor": config.middle_divisor})

        def attention(channels):
            return Attention2d(channels, config.head_size, style, groups)

        return MidBlock(channels, size, style, attention if config.middle == "attention" else None)

    # Calling it

    def forward(self, x, t, labels=None):
        self._check(x)
        t = self._times(t, x)
        y = self.run(x, self.embedded(x, t, labels))
        return y / t.reshape(-1, 1, 1, 1).to(x.dtype) if self.config.time == "fourier" else y

    def run(self, x, time, context=None, mask=None):
        """The network proper, told everything but x in embeddings."""
        x = self.conv_in(2 * x - 1 if self.config.centred else x)
        left = [x]
        for block in self.down_blocks:
            x, outputs = block(x, time, context, mask)
            left += outputs
        if self.mid_block is not None:
            x = self.mid_block(x, time, context, mask)
        for block in self.up_blocks:
            x = block(x, left, time, context, mask)
        return self.conv_out(self.conv_norm_out(x, self.last_activation))

    def embedded(self, x, t, labels):
        """t and the labels as one vector for each sample: (N, time_size)."""
        time = self.time_embedding(self.features(t).to(x.dtype))
        label = self.label_embedded(x, labels)
        return time if label is None else time + label

    def features(self, t):
        config = self.config
        if config.time == "fourier":
            return self.time_proj(t.to(self.time_proj.weight.dtype).log())
        if config.time == "learned":
            return self.time_proj(t)
        return time_features(t, config.channels[0], config.cosine_first, config.frequency_shift)

    def label_embedded(self, x, labels):
        wanted = self.class_embedding is not None or self.config.class_embedding == "vector"
        expect(labels is None or wanted, "UNet: labels were given, and the network has no classes\n  write classes=N",
               error=ArgumentError)  # fmt: skip
        if not wanted:
            return None
        expect(labels is not None, "UNet: the network has classes: give labels (N,)", error=ArgumentError)
        labels = labels if isinstance(labels, Tensor) else Tensor(np.asarray(labels))
        expect(len(labels) == len(x), "UNet: one label for each x (N, ...)", labels, x, error=ShapeError)
        if self.config.class_embedding == "timestep":
            return self.class_embedding(self.features(labels).to(x.dtype))
        if self.class_embedding is None:
            return labels.to(x.dtype)
        expect(labels.ndim == 1 and labels.dtype.kind in "iu", "UNet: labels are (N,) integers", labels)
        if labels.device == "cpu":  # on the GPU nothing is read back
            low, high = int(labels.data.min()), int(labels.data.max())
            rule = f"UNet: labels are from 0 to {self.config.classes - 1}"
            expect(low >= 0 and high < self.config.classes, rule, low, high, error=ArgumentError)
        return self.class_embedding(labels)

    def _check(self, x):
        shape = self.config.shape
        fits = x.ndim == 4 and all(s is None or s == n for s, n in zip(shape[:1], x.shape[1:]))
        shown = ", ".join("any" if s is None else str(s) for s in shape)
        expect(fits, f"{type(self).__name__}: x is (N, {shown})", x, error=ShapeError)
        least = 2 ** (len(self.config.channels) - 1)
        rule = f"{type(self).__name__}: halving {len(self.config.channels) - 1} times wants H and W of at least {least}"
        expect(min(x.shape[2:]) >= least, rule, x, error=ShapeError)

    def _times(self, t, x):
        """t as a tensor (N,) on x's device."""
        array = value(t)
        lib = xp(value(x))
        array = lib.asarray(array) if not hasattr(array, "dtype") or device_of(array) != x.device else array
        rule = f"{type(self).__name__}: t is a number or (N,), one for each x"
        expect(array.ndim == 0 or array.shape in ((1,), (len(x),)), rule, array, x, error=ShapeError)
        return Tensor(lib.broadcast_to(array.reshape(-1), (len(x),)))

    # The published form: UNet2DModel of diffusers

    @classmethod
    def config_from(cls, published):
        attention, resample = _way(published, "down")
        attention_up, resample_up = _way(published, "up")
        middle = "attention" if published.flag("add_attention", True) else "plain"
        if "mid_block_type" in published and published["mid_block_type"] is None:
            middle = None
        else:
            published.only("mid_block_type", "UNetMidBlock2D")
        return UNetConfig(
            shape=published_shape(published, 3),
            channels=published.integers("block_out_channels", (224, 448, 672, 896), least=1),
            attention=attention,
            attention_up=attention_up,
            resample=resample,
            resample_up=resample_up,
            layers=published.integer("layers_per_block", 2, least=1, most=100),
            out_channels=published.integer("out_channels", 3, least=1),
            head_size=published.get("attention_head_dim", 8) and published.integer("attention_head_dim", 8, least=1),
            groups=published.integer("norm_num_groups", 32, least=1),
            scale_shift=published.choice("resnet_time_scale_shift", {"default": False, "scale_shift": True}, "default"),
            middle=middle,
            middle_divisor=published.number("mid_block_scale_factor", 1.0),
            middle_groups=published.integer("attn_norm_num_groups", None, least=1),
            time=published.choice("time_embedding_type", PUBLISHED_TIMES, "positional"),
            times=published.integer("num_train_timesteps", None, least=1),
            **shared_from(published),
        )

    def config_to(self):
        config = self.config
        down_types, down_kind = _way_to("down", config.attention, config.resample)
        up_types, up_kind = _way_to("up", config.attention_up, config.resample_up)
        return {
            "_class_name": "UNet2DModel",
            "in_channels": config.shape[0],
            "out_channels": config.out_channels,
            "down_block_types": down_types,
            "up_block_types": up_types,
            "downsample_type": down_kind,
            "upsample_type": up_kind,
            "layers_per_block": config.layers,
            "attention_head_dim": config.head_size,
            "norm_num_groups": config.groups,
            "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
            "mid_block_type": None if config.middle is None else "UNetMidBlock2D",
            "add_attention": config.middle == "attention",
            "mid_block_scale_factor": config.middle_divisor,
            "attn_norm_num_groups": config.middle_groups,
            "time_embedding_type": {ours: theirs for theirs, ours in PUBLISHED_TIMES.items()}[config.time],
            "num_train_timesteps": config.times,
            **shared_to(config),
        }

    def weight_map(self):
        """Our names are the published ones. Older files spell the attention in another way."""
        return WeightMap(renamed=OLD_ATTENTION)


PUBLISHED_TIMES = {"positional": "sinusoid", "fourier": "fourier", "learned": "learned"}
OLD_ATTENTION = {
    r"(attentions\.\d+)\.query\.": r"\1.to_q.",
    r"(attentions\.\d+)\.key\.": r"\1.to_k.",
    r"(attentions\.\d+)\.value\.": r"\1.to_v.",
    r"(attentions\.\d+)\.proj_attn\.": r"\1.to_out.0.",
}


# The published names of a block: (without attention, halving by a convolution or by a ResBlock), with attention.
BLOCKS = {
    "down": ("DownBlock2D", "ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up": ("UpBlock2D", "ResnetUpsampleBlock2D", "AttnUpBlock2D"),
}


def _way(published, way):
    """(attention, resample) at each size of the way down or up."""
    kind = published.choice(f"{way}sample_type", RESAMPLE, "conv")  # of the blocks with attention; others name it
    meaning = dict(zip(BLOCKS[way], ((False, "conv"), (False, "resnet"), (True, kind))))
    return zip(*[meaning[name] for name in block_types(published, f"{way}_block_types", meaning)])


def _way_to(way, attention, resample):
    """(the published names of the blocks, how those with attention halve or double)."""
    plain, resnet, attending = BLOCKS[way]
    kinds = {kind for has, kind in zip(attention, resample) if has}
    rule = f"UNet: in a published U-Net the sizes with attention are resampled alike, going {way}"
    expect(len(kinds) <= 1, rule, resample, error=CheckpointError)
    names = [attending if has else {"conv": plain, "resnet": resnet}[kind] for has, kind in zip(attention, resample)]
    return names, next(iter(kinds), "conv")


def block_types(published, key, known):
    """The list of block names at `key`. Raises CheckpointError for one that is not known."""
    names = published.get(key)
    rule = f"{published.name}: {key} is a list of names among {', '.join(known)}"
    good = isinstance(names, list) and names and all(isinstance(name, str) and name in known for name in names)
    expect(good, rule, names, error=CheckpointError)
    return names


def published_shape(published, channels):
    size = published.get("sample_size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    return (published.integer("in_channels", channels, least=1), height, width)


def shared_from(published, kinds=()):
    """What UNet2DModel and UNet2DConditionModel say in the same words. `kinds`: more of class_embed_type."""
    kinds = {None: "table", "timestep": "timestep", "identity": "vector", **dict(kinds)}
    return {
        "classes": published.integer("num_class_embeds", 0),
        "class_embedding": published.choice("class_embed_type", kinds, None),
        "eps": published.number("norm_eps", 1e-5, least=0),
        "activation": published.choice("act_fn", tuple(ACTIVATIONS), "silu"),
        "dropout": published.number("dropout", 0.0, 0.0, 1.0),
        "time_size": published.integer("time_embedding_dim", None, least=1),
        "cosine_first": published.flag("flip_sin_to_cos", True),
        "frequency_shift": published.integer("freq_shift", 0),
        "padding": published.integer("downsample_padding", 1, most=1),
        "centred": published.flag("center_input_sample", False),
    }


def shared_to(config, kinds=()):
    kinds = {"table": None, "timestep": "timestep", "vector": "identity", **dict(kinds)}
    height, width = config.shape[1:]
    return {
        "sample_size": height if height == width else [height, width],
        "block_out_channels": list(config.channels),
        "num_class_embeds": config.classes or None,
        "class_embed_type": kinds[config.class_embedding],
        "norm_eps": config.eps,
        "act_fn": config.activation,
        "dropout": config.dropout,
        "time_embedding_dim": config.time_size,
        "flip_sin_to_cos": config.cosine_first,
        "freq_shift": config.frequency_shift,
        "downsample_padding": config.padding,
        "center_input_sample": config.centred,
    }
