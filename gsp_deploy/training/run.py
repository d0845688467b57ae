"""One training run in memory: model, losses, optimiser, and the training step."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsp_deploy.config import PreprocessingSpec
from gsp_deploy.data.images import LabelledImages
from gsp_deploy.errors import DataError
from gsp_deploy.images.normalisation import affine
from gsp_deploy.layers import GeneralizedSumPooling, PoolingOutput
from gsp_deploy.metrics import retrieval_metrics
from gsp_deploy.precision import PRECISIONS
from gsp_deploy.training.assembly import build_model, set_training_mode
from gsp_deploy.training.batch_norm import (
    SETTLING_BATCHES,
    measure_statistics,
    unsettled_share,
)
from gsp_deploy.training.batches import Batch, BatchSampler, PlainBatches, TrainingBatches, load
from gsp_deploy.training.distributed import (
    World,
    average_gradients,
    gather,
    sum_gradients,
    synchronise,
)
from gsp_deploy.training.objective import Losses, Objective
from gsp_deploy.training.optimisation import (
    build_optimiser,
    clip_gradients,
    rate_factor,
    set_learning_rate,
)
from gsp_deploy.training.random_streams import Stream, seed_torch
from gsp_deploy.training.recipe import Recipe
from gsp_deploy.training.records import DivergenceError, StepRecord


class TrainingRun:
    """The training step, and everything that it changes.

    Args:
        recipe: the settings.
        training: images to train on.
        validation: images of held-out classes; may be empty.
        device: device of all computations.
        world: this process's number among those that train together.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: LabelledImages,
        validation: LabelledImages,
        device: torch.device,
        world: World,
    ) -> None:
        self.recipe, self.training, self.validation = recipe, training, validation
        self.device, self.world = device, world
        seed = recipe.run.seed
        self.sampler = BatchSampler(training.labels, recipe.sampler, seed)
        world.share_of(recipe.sampler.batch_size)  # raises early if it cannot be shared evenly
        seed_torch(seed, Stream.PARAMETERS)
        self.model = build_model(recipe, device, world)
        self.objective = Objective(recipe, training.num_classes).to(device)
        self._backbone = [p for p in self.model.backbone.parameters() if p.requires_grad]
        self.optimiser = build_optimiser(recipe.optimiser, self.model, self.objective)
        scales = recipe.run.amp == "fp16"
        self.scaler = torch.amp.GradScaler(device.type, enabled=scales)
        scale, shift = affine(self.spec)
        self._scale = torch.from_numpy(scale).to(device)
        self._shift = torch.from_numpy(shift).to(device)

    @property
    def spec(self) -> PreprocessingSpec:
        """How an image becomes the network's input."""
        return self.recipe.preprocessing.spec()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        run = self.recipe.run
        return run.steps or (run.epochs or 0) * self.sampler.steps_per_epoch

    @property
    def evaluation_interval(self) -> int:
        """Steps from one validation to the next."""
        run = self.recipe.run
        return run.evaluate_every * (1 if run.steps else self.sampler.steps_per_epoch)

    def data_fingerprint(self) -> str:
        """Return a hash of the training and validation sets."""
        both = self.training.fingerprint() + self.validation.fingerprint()
        return hashlib.sha256(both.encode()).hexdigest()

    def start_prototypes(self) -> None:
        """Initialise the prototypes from the recipe; call this only before the first step."""
        head, settings = self.model.head, self.recipe.prototypes
        if not isinstance(head, GeneralizedSumPooling) or settings.init == "random":
            return
        if settings.init == "class-weights":
            head.initialize_prototypes(self.objective.class_vectors())
        else:
            head.initialize_prototypes(self._memory(settings.memory))
        synchronise(self.model, self.world)

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield this process's share of the batches from a step on."""
        return load(
            self._training_batches(self.world),
            range(first_step, self.total_steps),
            self.recipe.run.workers,
        )

    def step(self, step: int, batch: Batch, drops: int) -> StepRecord:
        """Take one step, counted from 0.

        Raises:
            DivergenceError: the loss or the gradient is not finite; the weights are unchanged.
        """
        run, optimiser = self.recipe.run, self.recipe.optimiser
        rate = optimiser.lr * rate_factor(self.recipe.schedule, step, self.total_steps, drops)
        set_learning_rate(self.optimiser, rate)
        self._freeze(step < self.recipe.schedule.frozen)
        seed_torch(run.seed, Stream.NETWORK, step, self.world.rank)
        losses = self._losses(batch, step)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()
        sum_gradients(self.model.parameters(), self.world)
        average_gradients(self.objective.parameters(), self.world)
        norm = self._clip(step)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return StepRecord(
            step=step + 1,
            epoch=step // self.sampler.steps_per_epoch + 1,
            learning_rate=rate,
            loss=losses.total.item(),
            metric_loss=losses.metric.item(),
            zsr_loss=None if losses.zsr is None else losses.zsr.item(),
            gradient_norm=norm,
        )

    def evaluate(self, steps_done: int) -> dict[str, float]:
        """Return `recall_at_k`, `map_at_r`, `r_precision` on the held-out classes.

        Raises:
            DataError: no held-out class has two images, so no query has a match.
            DivergenceError: the embeddings are not finite.
        """
        embeddings = self.embed(self.validation)
        if not np.isfinite(embeddings).all():
            what = "the validation's embeddings became"
            raise self._divergence(steps_done - 1, what, float("nan"), None, None)
        found = retrieval_metrics(embeddings, self.validation.labels)
        if not found.queries:
            raise DataError(
                f"none of the {self.validation.num_classes} held-out classes has two images; "
                "change data.validation_fraction or data.split_seed"
            )
        return found.to_dict()

    @torch.no_grad()
    def embed(self, images: LabelledImages) -> np.ndarray:
        """Embed images in eval mode with the deployed model's pre-processing: float32 `(n, D)`."""
        self.model.eval()
        plain = PlainBatches(images, self.spec, self.recipe.sampler.batch_size)
        parts = [
            self.model(self._network_input(batch.images)).embedding.float().cpu().numpy()
            for batch in load(plain, range(len(plain)), self.recipe.run.workers)
        ]
        set_training_mode(self.model, self.recipe.model.freeze_batch_norm)
        return np.concatenate(parts)

    def settle_statistics(self, steps: int) -> None:
        """Measure batch norm's statistics again if `steps` are too few for running ones.

        A running mean of few steps holds much of its start, and of weights that have changed since.
        So the statistics of the weights as they are now are averaged over batches instead.
        """
        if not unsettled_share(self.model, steps):
            return
        set_training_mode(self.model, self.recipe.model.freeze_batch_norm)
        seed_torch(self.recipe.run.seed, Stream.NETWORK, steps)
        batches = self._training_batches(World())
        measure_statistics(
            self.model, (self._network_input(batches[n].images) for n in range(SETTLING_BATCHES))
        )

    def tensors(self) -> dict[str, Any]:
        """Return the state dicts of everything that a step changes."""
        return {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, tensors: dict[str, Any]) -> None:
        """Load the state dicts that `tensors` returned."""
        self.model.load_state_dict(tensors["model"])
        self.objective.load_state_dict(tensors["objective"])
        self.optimiser.load_state_dict(tensors["optimiser"])
        self.scaler.load_state_dict(tensors["scaler"])

    def _losses(self, batch: Batch, step: int) -> Losses:
        amp = self.recipe.run.amp
        with torch.autocast(self.device.type, _amp_type(amp), enabled=amp != "off"):
            own: PoolingOutput = self.model(self._network_input(batch.images))
        output = PoolingOutput(
            gather(own.embedding, self.world),
            None if own.attributes is None else gather(own.attributes, self.world),
            None,
        )
        labels = gather(batch.labels.to(self.device), self.world)
        losses = self.objective(output, labels, step)
        if not torch.isfinite(losses.total):
            raise self._divergence(step, "the loss became", losses.total.item(), output, losses)
        return losses

    def _freeze(self, is_frozen: bool) -> None:
        """Leave the backbone and its batch statistics as they are, or train them."""
        if not self.recipe.schedule.frozen:
            return
        for parameter in self._backbone:
            parameter.requires_grad_(not is_frozen)
        set_training_mode(self.model, self.recipe.model.freeze_batch_norm)
        if is_frozen:
            self.model.backbone.eval()

    def _clip(self, step: int) -> float:
        """Clip the gradients and return the norm of all together before clipping."""
        self.scaler.unscale_(self.optimiser)
        norm = clip_gradients(self.recipe.optimiser, self.optimiser)
        if not np.isfinite(norm) and not self.scaler.is_enabled():
            raise self._divergence(step, "the gradient's norm became", norm, None, None)
        return norm

    def _divergence(
        self,
        step: int,
        what: str,
        value: float,
        output: PoolingOutput | None,
        losses: Losses | None,
    ) -> DivergenceError:
        """Return an error that names the first tensor that is not finite, and what to try."""
        suspects: list[tuple[str, Tensor | None]] = list(self.model.named_parameters())
        suspects += [(f"loss {name}", p) for name, p in self.objective.named_parameters()]
        if output is not None and losses is not None:
            suspects += [
                ("the embeddings", output.embedding),
                ("the attributes", output.attributes),
            ]
            suspects += [("the metric loss", losses.metric), ("the zero-shot loss", losses.zsr)]
        bad = [name for name, t in suspects if t is not None and not torch.isfinite(t).all()]
        first = f", first in {bad[0]}" if bad else ""
        rate = self.optimiser.param_groups[0]["lr"]
        return DivergenceError(
            f"{what} {value} at step {step + 1}{first} (learning rate {rate:.3g}, amp "
            f"{self.recipe.run.amp}); try a lower optimiser.lr, optimiser.clip_norm = 1, a longer "
            "schedule.warmup, or run.amp = off"
        )

    def _network_input(self, images: Tensor) -> Tensor:
        """Normalise uint8 `(B, H, W, 3)` on the device: float32 `(B, 3, H, W)`."""
        pixels = images.to(self.device, non_blocking=True).float()
        return (pixels * self._scale + self._shift).permute(0, 3, 1, 2).contiguous()

    def _training_batches(self, world: World) -> TrainingBatches:
        recipe = self.recipe
        return TrainingBatches(self.training, self.sampler, recipe.augmentation, self.spec, world)

    @torch.no_grad()
    def _memory(self, count: int) -> Tensor:
        """Return average-pooled embeddings of the first images of the run, `(count, D)`.

        A copy of the model embeds them in training mode: an untrained network's running statistics
        are not useful yet, and this call must not change them.
        """
        probe: Any = copy.deepcopy(self.model)
        batches = self._training_batches(World())
        found: list[Tensor] = []
        for step in range(-(-count // self.recipe.sampler.batch_size)):
            features = probe.features(self._network_input(batches[step].images))
            found.append(probe.head.embed(features.float().mean(dim=(2, 3))))
        return torch.cat(found)[:count]


def _amp_type(amp: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, "float32" if amp == "off" else PRECISIONS[amp].element.name)
    return found
