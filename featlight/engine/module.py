"""The batch of images as a Lightning module: an epoch of `Trainer.fit` is a chunk, a batch is a gradient step."""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from featlight.config.image_shape import fitted, image_size
from featlight.engine.chunk_result import ChunkResult, OtherNetworkError
from featlight.engine.invariance_checks import check_final
from featlight.engine.job import RunJob
from featlight.engine.step import NEW, OptimizerState, RenderPipeline, evaluate, gradient_size, update
from featlight.engine.strategy import IndependentWorkers
from featlight.errors import UsageError
from featlight.param.image import resize, to_bytes
from featlight.param.parameterization import ImageSides
from featlight.param.registry import starting_parameters
from featlight.param.transparency import opacity, pull, resized_pull, to_levels
from featlight.plan.plan import OCTAVE_PICTURE, Chunk


class FeatureVisualizer(L.LightningModule):
    """Feature visualization as training: the batch of images is the only trainable parameter.

    An epoch is a chunk, and the trainer stops after the last one: it needs `max_epochs=-1`. `training_step` scores the
    images, `optimizer_step` moves and blurs them, and `resize_images` resizes them between octaves. With some recipes
    the parameter holds Fourier coefficients or phases of the images.

    Args:
        job: prepared run, whose network is no child of this module: Lightning neither moves, casts nor saves it.
        chunks: at least one chunk to optimize; the next one is asked for after the result of the one before.
        batch_size: largest number of images optimized together, whatever a chunk asks for; short chunks are padded.
        on_chunk: function that takes the result of each chunk.
        unchanged: numbers of the chunks that use the original network, because its rewritten form differs.
        before_step: function called before every step; its exceptions end the run.
    """

    batch: nn.Parameter  # (B, C, H, W); coefficients or phases with some recipes
    chunk: Chunk  # the current one
    octave: int  # number of the current octave, from 1

    def __init__(
        self,
        job: RunJob,
        chunks: Iterable[Chunk],
        batch_size: int,
        on_chunk: Callable[[ChunkResult], None],
        *,
        unchanged: Collection[int] = (),
        before_step: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._job = job
        self._chunks = iter(chunks)
        self.chunk = next(self._chunks)
        self._batch_size = batch_size
        self._on_chunk = on_chunk
        self._unchanged = unchanged
        self._before_step = before_step
        self.batch = nn.Parameter(
            torch.empty(batch_size, job.network.in_channels, 1, 1)
        )  # Lightning asks for an optimizer before any chunk
        self._pipeline: RenderPipeline | None = None
        self._optimizer_state: OptimizerState = NEW

    def setup(self, stage: str) -> None:
        if not isinstance(self.trainer.strategy, IndependentWorkers):
            # the processes optimize different features: DDP would broadcast and average their images without an error
            given = type(self.trainer.strategy).__name__
            raise UsageError(
                f"strategy: {given} given; it would mix the images of several workers, or have each make all of them; "
                f"Trainer(strategy={IndependentWorkers.strategy_name!r}) is needed"
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Lightning needs one to clear the gradients and to count the steps; `optimizer_step` follows the recipe's rule
        return torch.optim.SGD([self.batch])

    def train_dataloader(self) -> range:
        # a range gets no sampler, which would repeat and split the steps
        return range(self.chunk.settings.recipe.total_steps)

    def on_train_epoch_start(self) -> None:
        chunk, recipe = self.chunk, self.chunk.settings.recipe
        self._rows = min(self._batch_size, chunk.batch_size)  # B
        padding = [chunk.tiles[-1]] * (self._rows - len(chunk.tiles))
        tiles = [*chunk.tiles, *padding]
        self._steps = list(recipe.steps())
        self._network = self._job.form(chunk, original=chunk.number in self._unchanged)
        self._pipeline = pipeline = self._job.pipeline(chunk, tiles)
        self._objective = self._job.objective(chunk, tiles)
        self._view_objective = self._job.objective(chunk, tiles, pipeline.views.boxes)
        self._size = self._steps[0].size
        init, dtype = self._job.start(chunk.settings, tiles), self._job.network.image_dtype
        start = starting_parameters(pipeline.parameterization, init, self._size, chunk.settings.seed, tiles)
        self._set_batch(start.to(self.device, dtype))
        steps, device = recipe.total_steps, self.device
        self._activation = torch.zeros(steps, self._rows, dtype=dtype, device=device)
        self._norms = torch.zeros(steps, self._rows, dtype=dtype, device=device)
        self._octaves: list[Tensor] = []
        self._pulls = torch.zeros_like(self.images[:, 0]) if recipe.keeps_alpha else None  # (B, H, W), over the steps
        self.octave = 0
        self._started = time.perf_counter()

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:
        self._before_step()
        if self._steps[batch_idx].opens_octave:
            self.octave += 1
            if self.octave > 1:
                self.resize_images(self._steps[batch_idx].size)

    def resize_images(self, size: ImageSides) -> None:
        """Resize the images between two octaves; the optimizer starts anew."""
        self._end_octave()
        self._set_batch(self._current_pipeline.parameterization.resized(self.batch.detach(), self._size, size))
        self._size = size
        if self._pulls is not None:
            self._pulls = resized_pull(self._pulls, size)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """Score the images; return the sum of their losses."""
        self._evaluated = evaluate(  # in a tuple: a module would register the batch itself a second time
            self.batch, self._steps[batch_idx], self._network, self._view_objective, self._current_pipeline
        )
        _, scores = self._evaluated
        self._activation[batch_idx] = scores.activation
        return scores.loss.sum()  # a mean would depend on the batch size

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradient of the images alone: a network inside the user's own objective gets none."""
        with self._current_pipeline.views.in_a_line("no gradient can be taken"):
            loss.backward(inputs=[self.batch])  # type: ignore[no-untyped-call]

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Move the images against their gradients, then blur them.

        The closure runs `training_step` and `backward`. The recipe's rule takes the place of the optimizer's.
        """
        assert optimizer_closure is not None
        optimizer_closure()
        images, _ = self._evaluated
        assert self.batch.grad is not None
        assert images.grad is not None
        self._norms[batch_idx] = gradient_size(images.grad)[1]
        if self._pulls is not None:
            self._pulls += pull(images.grad)
        with torch.no_grad():
            moved, self._optimizer_state = update(
                self.batch, self.batch.grad, self._optimizer_state, self._steps[batch_idx], self._current_pipeline
            )
            self.batch.copy_(moved)

    def on_train_epoch_end(self) -> None:
        self._end_octave()
        images = self.images
        with torch.no_grad():
            # records hold the activations of the original network, not of the optimized one
            original = self._job.network.original(self.chunk.layers)
            outputs = original(images)
            reference = self._current_pipeline.reference_outputs(original, images, None)
            other = check_final(self._job.network, images, self._network(images), outputs, self.chunk.features)
            last = self._objective(outputs, *reference).activation
            maps = self._objective.maps(outputs, *reference) if "maps" in self._job.config.extras else []
        if other is not None:
            raise OtherNetworkError(self.chunk, other)
        norms = self._norms.cpu()
        self._on_chunk(
            ChunkResult(
                chunk=self.chunk,
                images=images.cpu(),
                alphas=None if self._pulls is None else to_levels(opacity(self._pulls.cpu())),
                pictures=to_bytes(images.nan_to_num(), self._job.shown_channels),
                activation=torch.cat([self._activation, last[None]]).cpu(),
                gradient_norm=norms.mean(0),
                alive=(norms != 0).any(0),
                vectors=outputs[self.chunk.layers[0]].mean((2, 3)).cpu(),
                octaves=self._octaves,
                maps=[each.cpu() for each in maps],
                seconds=time.perf_counter() - self._started,
                batch_size=self._rows,
            )
        )
        following = next(self._chunks, None)
        if following is None:
            self.trainer.should_stop = True
        else:
            self.chunk = following

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return nothing: finished tiles are on disk."""
        return {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise RuntimeError("featlight resumes from the run directory, not from a checkpoint")

    @property
    def images(self) -> Tensor:
        """The images, decoded from the parameter, in pixel units, (B, C, H, W)."""
        with torch.no_grad():
            return self._current_pipeline.parameterization.image(self.batch.detach(), self._size)

    @property
    def _current_pipeline(self) -> RenderPipeline:
        assert self._pipeline is not None
        return self._pipeline

    def _set_batch(self, parameters: Tensor) -> None:
        """Replace the batch, for a new chunk or a new size, and forget the optimizer's state."""
        self.batch = nn.Parameter(self._current_pipeline.in_fast_layout(parameters, self._network.format))
        self._optimizer_state = NEW
        self.trainer.optimizers = [self.configure_optimizers()]

    def _end_octave(self) -> None:
        images = self.images
        size = fitted(image_size(*images.shape[2:]), OCTAVE_PICTURE)
        self._octaves.append(to_bytes(resize(images, size, antialias=True), self._job.shown_channels))
