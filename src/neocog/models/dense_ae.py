"""Autoencoders of dense layers: all pixels at once, fewer and fewer sums of them, and back.

dense_ae: Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006,
doi:10.1126/science.1127647: 784-1000-500-250-30 and back for digits, logistic units, a linear code.
Differs from the paper: ReLU unless `act` is "sigmoid", and no layer is learned before the others (`deep_belief` is the
network that begins as the paper's does).

vae: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114: one hidden layer of 500 units
each way for digits (section 5, appendix C), tanh.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from neocog.core.registry import register
from neocog.layers.activations import pointwise
from neocog.models.autoencoder import CodeSpec, Encoder, Mirrored, digits_spec

WIDTHS = (1000, 500, 250)


def dense(in_channels: int, image_size: int, widths: Sequence[int], act: str) -> Encoder:
    """Every layer is a stage of stride 0: after it there is no grid."""
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    c = in_channels * image_size**2
    for number, width in enumerate(widths, start=1):
        stages[f"dense{number}"] = nn.Sequential(OrderedDict(fc=nn.Linear(c, width), act=pointwise(act)))
        c = width
    return Encoder(nn.Flatten(), nn.Sequential(stages), widths, [0] * len(widths))


@register(
    digits_spec(
        name="dense_ae",
        idea="All pixels at once through fewer and fewer sums, and back: the autoencoder that beat PCA.",
        title="Reducing the Dimensionality of Data with Neural Networks",
        year=2006,
        link="https://doi.org/10.1126/science.1127647",
        table="784-1000-500-250-30, the digits' network",
        params=2_837_314,
        macs=2_833_000,
    )
)
def dense_ae(
    *, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 30, keep: int = 0,
    act: str = "linear", hidden_act: str = "relu",
) -> Mirrored:  # fmt: skip
    """`latent`: numbers of the code. `keep`: of each code only so many of the highest activations stay. `act` bends the
    code, `hidden_act` the other layers."""
    parts = dense(in_channels, image_size, WIDTHS, hidden_act)
    return Mirrored(
        parts, CodeSpec("vector", latent, act, keep), "resize", in_channels=in_channels, image_size=image_size,
        classes=num_classes, dense=WIDTHS[::-1], act=hidden_act,
    )  # fmt: skip


@register(
    digits_spec(
        name="vae",
        idea="Each picture becomes a normal distribution over codes: what is drawn from it must decode to the picture.",
        title="Auto-Encoding Variational Bayes",
        year=2014,
        link="https://arxiv.org/abs/1312.6114",
        table="section 5 and appendix C: one hidden layer of 500 units each way",
        params=815_824,
        macs=814_000,
    )
)
def vae(
    *, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 20, hidden: int = 500,
    layers: int = 1, hidden_act: str = "tanh",
) -> Mirrored:  # fmt: skip
    """`latent`: numbers of the code. Each way `layers` layers of `hidden` units, bent by `hidden_act`; Burda et al.,
    ICLR 2016, arXiv:1509.00519, has 2 of 200 and a code of 50."""
    widths = (hidden,) * layers
    parts = dense(in_channels, image_size, widths, hidden_act)
    return Mirrored(
        parts, CodeSpec("gaussian", latent), "resize", in_channels=in_channels, image_size=image_size,
        classes=num_classes, dense=widths, act=hidden_act,
    )  # fmt: skip
