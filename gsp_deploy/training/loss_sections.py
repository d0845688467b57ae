"""Recipe sections of the losses and miners, with their settings and allowed values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gsp_deploy.training.sections import NotNegative, Positive, Section

Cosine = Annotated[float, Field(ge=-1, le=1)]


class ContrastiveSection(Section):
    """Contrastive loss; the margins are Euclidean distances between unit vectors."""

    kind: Literal["contrastive"]
    positive_margin: NotNegative = 0.0
    negative_margin: Positive = 1.0


class CosineContrastiveSection(Section):
    """Contrastive loss with cosines as margins: a sum over an image's pairs, a mean over images.

    Wang et al. (XBM, CVPR 2020) and GSP's authors use this form: every negative with a cosine above
    its margin counts in full, however many there are.
    """

    kind: Literal["cosine-contrastive"]
    positive_margin: Cosine = 1.0
    negative_margin: Cosine = 0.5


class TripletSection(Section):
    """Triplet loss; the margin is a Euclidean distance between unit vectors."""

    kind: Literal["triplet"]
    margin: Positive = 0.1
    swap: bool = False
    smooth: bool = False


class MultiSimilaritySection(Section):
    """Multi-similarity loss, Wang et al., CVPR 2019."""

    kind: Literal["multi-similarity"]
    alpha: Positive = 2.0
    beta: Positive = 50.0
    base: float = 0.5


class ProxyAnchorSection(Section):
    """Proxy-anchor loss, Kim et al., CVPR 2020."""

    kind: Literal["proxy-anchor"]
    margin: Positive = 0.1
    alpha: Positive = 32.0


class ProxyNcaSection(Section):
    """Proxy-NCA loss, Movshovitz-Attias et al., ICCV 2017, with ProxyNCA++'s temperature.

    The scale multiplies squared distances. They are 2 - 2 cos, so the default is GSP's authors'
    1/0.11 for cosines.
    """

    kind: Literal["proxy-nca"]
    softmax_scale: Positive = 1 / 0.22


LossSection = Annotated[
    ContrastiveSection
    | CosineContrastiveSection
    | TripletSection
    | MultiSimilaritySection
    | ProxyAnchorSection
    | ProxyNcaSection,
    Field(discriminator="kind"),
]


class NoMinerSection(Section):
    """No miner: every pair or triplet of the batch counts."""

    kind: Literal["none"] = "none"


class MultiSimilarityMinerSection(Section):
    """Pairs that are harder than the easiest of the other kind, within epsilon (a cosine)."""

    kind: Literal["multi-similarity"]
    epsilon: NotNegative = 0.1


class BatchHardMinerSection(Section):
    """For each image, its farthest positive and its nearest negative."""

    kind: Literal["batch-hard"]


class SemiHardMinerSection(Section):
    """For each image, its nearest positive and a negative that is just farther."""

    kind: Literal["easy-positive"]


class TripletMarginMinerSection(Section):
    """Triplets that violate the margin."""

    kind: Literal["triplet-margin"]
    margin: Positive = 0.1
    triplets: Literal["all", "hard", "semihard", "easy"] = "all"


MinerSection = Annotated[
    NoMinerSection
    | MultiSimilarityMinerSection
    | BatchHardMinerSection
    | SemiHardMinerSection
    | TripletMarginMinerSection,
    Field(discriminator="kind"),
]
