"""Why prototypes' start, gamma and mu matter, and why the zero-shot loss does not move.

Both on the network that the retrieval benchmark starts from, without training it further, and on
training and validation classes alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from retrieval_weights import coverage, pixels_of, some_of_each_class
from torch import Tensor

from gsp_deploy import EmbeddingModel, GeneralizedSumPooling, GSPConfig, load_checkpoint
from gsp_deploy.data import LabelledImages, open_dataset, validation_split
from gsp_deploy.images.normalisation import affine
from gsp_deploy.layers.losses import ZeroShotLoss
from gsp_deploy.metrics import retrieval_metrics

SPEC = "glyphs:clutter=1,size=48,scale=0.5"
MEMORY, PROTOTYPES = 1024, 32
BATCH = 64
# Length of ZSR's class embeddings.
EMBEDDING = 64
ZSR_STEPS = 300

Head = GeneralizedSumPooling


def main() -> None:
    """Print the tables for one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="of the first stage")
    model = load_checkpoint(parser.parse_args().checkpoint).eval()
    torch.set_num_threads(1)
    training, validation = validation_split(open_dataset(SPEC).train, 0.2, 0)
    learned = some_of_each_class(training, 8)
    features, labels = feature_maps(model, training, learned), training.labels[learned]
    memory = model.head.embed(features.mean(dim=(2, 3))).detach()
    order = np.random.default_rng(0).permutation(len(memory))[:MEMORY]
    print(untrained_heads(model, validation, memory[order]))
    print(zsr_alone(model, features, torch.from_numpy(labels), memory[order]))
    print(zsr_signal(model, features, torch.from_numpy(labels), memory[order]))


@torch.inference_mode()
def feature_maps(model: EmbeddingModel, images: LabelledImages, chosen: np.ndarray) -> Tensor:
    """Return the backbone's maps of chosen images, `(n, C, h, w)`."""
    spec = model.config.preprocessing
    assert spec is not None
    scale, shift = (torch.from_numpy(values) for values in affine(spec))
    parts = []
    for start in range(0, len(chosen), BATCH):
        pixels = torch.from_numpy(pixels_of(images, chosen[start : start + BATCH])).float()
        parts.append(model.features((pixels * scale + shift).permute(0, 3, 1, 2)))
    return torch.cat(parts)


def head_like(
    model: EmbeddingModel, memory: Tensor | None, entropy_weight: float, ratio: float
) -> Head:
    """Return a GSP head with the model's embedding; without a memory, prototypes at random."""
    torch.manual_seed(0)
    head = Head(
        GSPConfig(
            in_channels=model.config.head.in_channels,
            embedding_dim=model.config.head.embedding_dim,
            num_prototypes=PROTOTYPES,
            transport_ratio=ratio,
            entropy_weight=entropy_weight,
            solver="newton",
        )
    )
    head.embed.load_state_dict(model.head.embed.state_dict())
    if memory is not None:
        head.initialize_prototypes(memory)
    return head.eval()


@torch.inference_mode()
def untrained_heads(model: EmbeddingModel, images: LabelledImages, memory: Tensor) -> str:
    """Return the table of GSP heads put on the network as they start."""
    chosen = some_of_each_class(images, 10)
    features, labels = feature_maps(model, images, chosen), images.labels[chosen]
    covered = torch.from_numpy(coverage(images, chosen, tuple(features.shape[2:])))
    plain = retrieval_metrics(model.head(features).embedding.numpy(), labels)
    lines = [
        "| prototypes | gamma | mu | spread of w | mass / area | R@1 | MAP@R |",
        "|---" * 7 + "|",
        f"| average pooling | | | 0 | 1 | {plain.recall_at[1]:.4f} | {plain.map_at_r:.4f} |",
    ]
    for start, vectors in (("random", None), ("k-centre", memory)):
        for gamma in (5.0, 10.0, 20.0, 40.0):
            for ratio in (0.1, 0.2, 0.3, 0.5):
                out = head_like(model, vectors, gamma, ratio)(features)
                mass = (out.weights * covered).mean() / covered.mean()
                found = retrieval_metrics(out.embedding.numpy(), labels)
                lines.append(
                    f"| {start} | {gamma:g} | {ratio:g} | {out.weights.std(dim=(1, 2)).mean():.2f} "
                    f"| {mass:.2f} | {found.recall_at[1]:.4f} | {found.map_at_r:.4f} |"
                )
    return "\n".join(lines) + "\n"


def zsr_alone(model: EmbeddingModel, features: Tensor, labels: Tensor, memory: Tensor) -> str:
    """Return the table of the zero-shot loss when only its class embeddings learn."""
    lines = [
        "| prototypes | gamma | batch | images per class | lr | std of attributes | first | last |",
        "|---" * 8 + "|",
    ]
    for start, vectors, gamma in (("random", None, 5.0), ("k-centre", memory, 20.0)):
        with torch.inference_mode():
            attributes = head_like(model, vectors, gamma, 0.2)(features).attributes
        attributes = attributes.clone()  # out of inference mode
        spread = attributes.std(dim=0).mean()
        for batch, each, rate in ((64, 4, 0.003), (64, 4, 0.03), (128, 2, 0.003), (480, 2, 0.03)):
            losses = _class_embeddings_learn(attributes, labels, batch, each, rate)
            lines.append(
                f"| {start} | {gamma:g} | {batch} | {each} | {rate:g} | {spread:.4f} "
                f"| {np.mean(losses[:10]):.2f} | {np.mean(losses[-30:]):.2f} |"
            )
    return "\n".join(lines) + "\n"


def zsr_signal(model: EmbeddingModel, features: Tensor, labels: Tensor, memory: Tensor) -> str:
    """Return the table of the same loss with true labels and with labels in random order."""
    with torch.inference_mode():
        attributes = head_like(model, memory, 20.0, 0.2)(features).attributes
    attributes = attributes.clone()  # out of inference mode
    order = np.random.default_rng(1).permutation(len(labels))
    lines = [
        "| classes in a batch | batch | true labels | shuffled | gain |",
        "|---" * 5 + "|",
    ]
    for batch, each in ((64, 4), (64, 2), (128, 4), (96, 2), (64, 1), (128, 2)):
        true, shuffled = (
            float(np.mean(_class_embeddings_learn(attributes, given, batch, each, 0.003)[-30:]))
            for given in (labels, labels[order])
        )
        lines.append(
            f"| {batch // each} | {batch} | {true:.2f} | {shuffled:.2f} | {shuffled - true:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _class_embeddings_learn(
    attributes: Tensor, labels: Tensor, batch: int, each: int, rate: float
) -> list[float]:
    """Return the loss of every step."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    classes = int(labels.max()) + 1
    members = [np.flatnonzero(labels.numpy() == c) for c in range(classes)]
    loss = ZeroShotLoss(EMBEDDING, classes)
    optimiser = torch.optim.Adam(loss.parameters(), rate)
    losses = []
    for _ in range(ZSR_STEPS):
        drawn = rng.permutation(classes)[: batch // each]
        chosen = np.concatenate([rng.choice(members[c], each, replace=False) for c in drawn])
        value = loss(attributes[chosen], labels[chosen])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return losses


if __name__ == "__main__":
    main()
