"""All combinations of losses, miners, memory and heads have finite losses."""

from __future__ import annotations

import itertools

import pytest
import torch
from pytorch_metric_learning import losses, miners
from torch.nn import functional as F

from gsp_deploy.layers import PoolingOutput
from gsp_deploy.layers.losses import ZeroShotLoss
from gsp_deploy.training.batches import load
from gsp_deploy.training.distributed import World
from gsp_deploy.training.objective import Objective
from gsp_deploy.training.run import TrainingRun

from .tiny import patches, recipe_with

PAIR_LOSSES = ("contrastive", "cosine-contrastive", "triplet", "multi-similarity")
LOSSES = (*PAIR_LOSSES, "proxy-anchor", "proxy-nca")
MINERS = ("none", "multi-similarity", "batch-hard", "easy-positive", "triplet-margin")
HEADS = ("gsp", "gap", "gmp", "gem", "gap+gmp")


def run_of(recipe):
    images = patches().train
    return TrainingRun(recipe, images, images.subset([]), torch.device("cpu"), World())


def steps(recipe, count=2):
    run = run_of(recipe)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    batches = load(run._training_batches(World()), range(count), 0)
    records = [run.step(step, batch, 0) for step, batch in enumerate(batches)]
    moved = [n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])]
    return records, moved


@pytest.mark.parametrize(("loss", "miner"), itertools.product(LOSSES, MINERS))
def test_every_loss_with_every_miner(loss, miner):
    recipe = recipe_with(loss={"kind": loss}, miner={"kind": miner})
    records, _ = steps(recipe)
    for record in records:
        assert torch.isfinite(torch.tensor([record.loss, record.gradient_norm])).all()


@pytest.mark.parametrize(("loss", "head"), itertools.product(LOSSES, HEADS))
def test_every_loss_with_every_head(loss, head):
    records, moved = steps(recipe_with(loss={"kind": loss}, head__kind=head))
    assert {"head.embed.weight", "backbone.units.0.conv.weight"} <= set(moved)
    assert ("head.prototypes" in moved) == (head == "gsp")
    assert (records[0].zsr_loss is None) == (head != "gsp")


@pytest.mark.parametrize(("loss", "miner"), itertools.product(PAIR_LOSSES, MINERS))
def test_every_pair_loss_with_a_memory(loss, miner):
    recipe = recipe_with(loss={"kind": loss}, miner={"kind": miner}, xbm={"size": 12, "start": 1})
    records, _ = steps(recipe)
    assert torch.isfinite(torch.tensor([record.loss for record in records])).all()


@pytest.mark.parametrize("amp", ["fp16", "bf16"])
def test_mixed_precision_on_the_cpu(amp):
    """The gradient scaler of fp16 starts too high and skips steps until nothing overflows."""
    records, moved = steps(recipe_with(run__amp=amp, run__steps=20), count=20)
    assert all(record.loss < 100 for record in records)
    assert torch.isfinite(torch.tensor(records[-1].gradient_norm))
    assert "head.embed.weight" in moved


def random_output(count=8, dim=8, attributes=4, seed=0):
    torch.manual_seed(seed)
    embedding = F.normalize(torch.randn(count, dim), dim=1)
    return PoolingOutput(embedding, torch.randn(count, attributes).softmax(dim=1), None)


LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            {"kind": "contrastive", "positive_margin": 0.1, "negative_margin": 0.7},
            losses.ContrastiveLoss(pos_margin=0.1, neg_margin=0.7),
        ),
        (
            {"kind": "triplet", "margin": 0.3, "swap": True, "smooth": True},
            losses.TripletMarginLoss(margin=0.3, swap=True, smooth_loss=True),
        ),
        (
            {"kind": "multi-similarity", "alpha": 3, "beta": 40, "base": 0.4},
            losses.MultiSimilarityLoss(alpha=3, beta=40, base=0.4),
        ),
        (
            {"kind": "proxy-anchor", "margin": 0.2, "alpha": 16},
            losses.ProxyAnchorLoss(4, 8, margin=0.2, alpha=16),
        ),
        ({"kind": "proxy-nca", "softmax_scale": 3}, losses.ProxyNCALoss(4, 8, softmax_scale=3)),
    ],
    ids=[loss for loss in LOSSES if loss != "cosine-contrastive"],
)
def test_settings_reach_the_loss(section, expected):
    objective = Objective(recipe_with(loss=section), num_classes=4)
    if hasattr(expected, "proxies"):
        expected.proxies.data.copy_(objective.metric.proxies)
    output = random_output()
    torch.testing.assert_close(
        objective(output, LABELS, 0).metric, expected(output.embedding, LABELS)
    )


@pytest.mark.parametrize("memory", [0, 24])
def test_cosine_contrastive_is_the_sum_over_an_images_pairs(memory):
    """(1 - s) of each positive and (s - margin) of each near negative, the images' mean."""
    section = {"kind": "cosine-contrastive", "negative_margin": 0.2}
    objective = Objective(recipe_with(loss=section, xbm={"size": memory}), 4)
    gallery = []
    for step in range(3):
        output = random_output(seed=step)
        gallery.append(output.embedding)
        found = objective(output, LABELS, step).metric
    others = torch.cat(gallery) if memory else output.embedding
    labels = LABELS.repeat(len(others) // 8)
    cosines = output.embedding @ others.T
    same = LABELS[:, None] == labels
    itself = (cosines - 1).abs() < 1e-6
    expected = (1 - cosines)[same & ~itself].sum() + F.relu(cosines - 0.2)[~same].sum()
    torch.testing.assert_close(found, expected / 8)


def test_total_is_the_weighted_sum():
    objective = Objective(recipe_with(zsr={"weight": 0.3, "ridge": 0.2, "softmax_scale": 5}), 4)
    reference = ZeroShotLoss(8, 4, ridge=0.2, softmax_scale=5)
    reference.load_state_dict(objective.zsr.state_dict())
    output = random_output()
    found = objective(output, LABELS, 0)
    torch.testing.assert_close(found.zsr, reference(output.attributes, LABELS))
    torch.testing.assert_close(found.total, 0.7 * found.metric + 0.3 * found.zsr)


def test_memory_takes_part_from_its_start_on():
    recipe = recipe_with(
        loss={"kind": "multi-similarity"},
        miner={"kind": "multi-similarity", "epsilon": 0.2},
        xbm={"size": 20, "start": 2},
    )
    objective = Objective(recipe, 4)
    loss, miner = losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner(0.2)
    reference = losses.CrossBatchMemory(loss, 8, 20, miner)
    for step in range(6):
        output = random_output(seed=step)
        found = objective(output, LABELS, step).metric
        if step < 2:
            expected = loss(output.embedding, LABELS, miner(output.embedding, LABELS))
        else:
            expected = reference(output.embedding, LABELS)
        torch.testing.assert_close(found, expected)


def test_memory_survives_its_state_dict():
    recipe = recipe_with(loss={"kind": "contrastive"}, xbm={"size": 20})
    one, other = Objective(recipe, 4), Objective(recipe, 4)
    for step in range(4):  # 32 embeddings: the memory has wrapped around
        one(random_output(seed=step), LABELS, step)
    other.load_state_dict(one.state_dict())
    fresh = random_output(seed=9)
    assert torch.equal(one(fresh, LABELS, 4).total, other(fresh, LABELS, 4).total)


@pytest.mark.parametrize("loss", ["proxy-anchor", "multi-similarity"])
def test_prototypes_start_from_class_weights(loss):
    run = run_of(recipe_with(loss={"kind": loss}, prototypes={"init": "class-weights"}))
    run.start_prototypes()
    vectors = run.objective.class_vectors()
    assert vectors.shape == (8, 8)
    rows = [(vectors == prototype).all(dim=1).any() for prototype in run.model.head.prototypes]
    assert all(rows)
    assert torch.equal(run.model.head.prototypes[0], vectors[0])


def test_prototypes_start_from_a_memory_and_nothing_else_moves():
    run = run_of(recipe_with(prototypes={"init": "memory", "memory": 20}))
    before = {name: t.clone() for name, t in run.model.state_dict().items()}
    run.start_prototypes()
    changed = [n for n, t in run.model.state_dict().items() if not torch.equal(t, before[n])]
    assert changed == ["head.prototypes"]
    vectors = run._memory(20)
    assert len(vectors) == 20
    assert all((vectors == p).all(dim=1).any() for p in run.model.head.prototypes)


def test_proxy_nca_is_the_authors():
    """Their formula: -log softmax of cosines over 0.11, at the image's own proxy."""
    objective = Objective(recipe_with(loss={"kind": "proxy-nca"}, zsr={"enabled": False}), 4)
    embeddings = torch.nn.functional.normalize(torch.randn(6, 8), dim=1)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    proxies = torch.nn.functional.normalize(objective.metric.proxies.detach(), dim=1)
    logits = (embeddings @ proxies.T) / 0.11
    expected = torch.nn.functional.cross_entropy(logits, labels)
    found = objective(PoolingOutput(embeddings, None, None), labels, 0).total
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
