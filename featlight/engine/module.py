"""The batch of images as a Lightning module: `Trainer.fit` runs one epoch a chunk, one batch a gradient step."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from featlight.config.schema import Extra
from featlight.config.tile import Tile
from featlight.engine.chunk_result import ChunkResult, OtherNetworkError
from featlight.engine.guard import check_final
from featlight.engine.step import conditioned, descended, smoothed
from featlight.engine.strategy import IndependentWorkers
from featlight.errors import UsageError
from featlight.models.prepared import PreparedNetwork
from featlight.objectives.objective import Objective
from featlight.objectives.regions import MapSize
from featlight.param.image import resize, starting_images, to_bytes
from featlight.plan.plan import OCTAVE_PICTURE, Chunk


class ImageOptimizer(torch.optim.Optimizer):
    """The pure update of `engine.step` in torch's form, for one batch of images.

    Args:
        params: the images.
        lr: learning rate; set anew before every step.
    """

    def __init__(self, params: Sequence[nn.Parameter], lr: float = 0.0) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()  # Lightning's: forward, backward and the hooks
        with torch.no_grad():
            for group in self.param_groups:
                for images in group["params"]:
                    moved, self.state[images] = descended(images, images.grad, self.state[images], group["lr"])
                    images.copy_(moved)
        return loss


class FeatureVisualizer(L.LightningModule):
    """Gradient descent on pixels; the images are the only trainable parameter.

    Args:
        network: frozen, to be cut at a chunk's layers; kept outside of this module's own children, so that
            Lightning neither moves, casts nor saves it.
        chunks: the work, in order.
        first_maps: by first image size and layer, the map which the objectives' positions count on.
        batch_size: B; shorter chunks are padded with their last tile.
        on_chunk: called with what each chunk gave.
        init: instead of each chunk's own start, a tensor for each of its tiles.
        extras: what to keep of each tile besides its image.
        double: images in float64, for checking.
        unchanged: numbers of the chunks that take the network as it was given, for its rewritten form is another one.
        before_step: called before every step; what it raises ends the run.
    """

    images: nn.Parameter  # (B, 3, S, S)
    octave: int  # in hand, from 1

    def __init__(
        self,
        network: PreparedNetwork,
        chunks: Sequence[Chunk],
        first_maps: Mapping[int, Mapping[str, MapSize]],
        batch_size: int,
        on_chunk: Callable[[ChunkResult], None],
        *,
        init: Callable[[Sequence[Tile]], Tensor] | None = None,
        extras: Sequence[Extra] = (),
        double: bool = False,
        unchanged: Collection[int] = (),
        before_step: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._prepared = network
        self.chunks = chunks
        self._first_maps = first_maps
        self._batch_size = batch_size
        self._on_chunk = on_chunk
        self._init = init
        self._extras = extras
        self._image_dtype = torch.float64 if double else torch.float32
        self._unchanged = unchanged
        self._before_step = before_step
        self.images = nn.Parameter(torch.empty(batch_size, 3, 1, 1))  # Lightning asks for an optimizer before any chunk

    @property
    def chunk(self) -> Chunk:
        """The chunk in hand."""
        return self.chunks[self.trainer.current_epoch]

    def setup(self, stage: str) -> None:
        if not isinstance(self.trainer.strategy, IndependentWorkers):
            # another process's images are other features: DDP would broadcast and average them, and exit with 0
            given = type(self.trainer.strategy).__name__
            raise UsageError(
                f"strategy: {given} given; it would mix the images of several workers, or have each make all of them; "
                f"Trainer(strategy={IndependentWorkers.strategy_name!r}) is needed"
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return ImageOptimizer([self.images])

    def train_dataloader(self) -> range:
        # a range gets no sampler, which would repeat and split the steps
        return range(self.chunk.settings.recipe.total_steps)

    def on_train_epoch_start(self) -> None:
        chunk, recipe = self.chunk, self.chunk.settings.recipe
        padding = [chunk.tiles[-1]] * (self._batch_size - len(chunk.tiles))
        tiles = [*chunk.tiles, *padding]
        self._steps = list(recipe.steps())
        if chunk.number in self._unchanged:
            self._network = self._prepared.afresh(chunk.layers)
        else:
            self._network = self._prepared.at(chunk.layers, chunk.features)
        self._objective = Objective(
            tiles, chunk.settings.metric, chunk.settings.target, self._first_maps[recipe.first_size]
        )
        init = chunk.settings.init if self._init is None else self._init(tiles)
        start = starting_images(init, recipe.first_size, chunk.settings.seed, tiles)
        self._set_images(start.to(self.device, self._image_dtype))
        steps, device = recipe.total_steps, self.device
        self._activation = torch.zeros(steps, self._batch_size, dtype=self._image_dtype, device=device)
        self._norms = torch.zeros(steps, self._batch_size, dtype=self._image_dtype, device=device)
        self._octaves: list[Tensor] = []
        self.octave = 0
        self._started = time.perf_counter()

    def on_train_batch_start(self, batch: int, batch_idx: int) -> None:
        self._before_step()
        step = self._steps[batch_idx]
        if step.opens_octave:
            self.octave += 1
            if self.octave > 1:
                self._end_octave()
                self._set_images(resize(self.images.detach(), step.size))
        self.trainer.optimizers[0].param_groups[0]["lr"] = step.lr

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        scores = self._objective(self._network(self.images))
        self._activation[batch_idx] = scores.activation
        return scores.loss.sum()  # a sum: a mean would depend on the batch size

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        batch_idx = self.trainer.fit_loop.epoch_loop.batch_idx  # Lightning tells it to no hook here
        assert self.images.grad is not None
        self.images.grad, self._norms[batch_idx] = conditioned(self.images.grad, self._steps[batch_idx].gradient)

    def optimizer_step(self, epoch: int, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """The gradient step, then the blur: the article's smoothness prior."""
        super().optimizer_step(epoch, batch_idx, *args, **kwargs)
        with torch.no_grad():
            self.images.copy_(smoothed(self.images, self._steps[batch_idx].sigma))

    def on_train_epoch_end(self) -> None:
        self._end_octave()
        images = self.images.detach()
        with torch.no_grad():
            # what is recorded is what the network gives, not what was made of it
            outputs = self._prepared.untouched(self.chunk.layers)(images)
            other = check_final(self._prepared, images, self._network(images), outputs, self.chunk.features)
            last = self._objective(outputs).activation
        if other is not None:
            raise OtherNetworkError(self.chunk, other)
        norms = self._norms.cpu()
        self._on_chunk(
            ChunkResult(
                chunk=self.chunk,
                images=images.cpu(),
                pictures=to_bytes(images.nan_to_num()),
                activation=torch.cat([self._activation, last[None]]).cpu(),
                gradient_norm=norms.mean(0),
                alive=(norms != 0).any(0),
                vectors=outputs[self.chunk.layers[0]].mean((2, 3)).cpu(),
                octaves=self._octaves,
                maps=[found.cpu() for found in self._objective.maps(outputs)] if "maps" in self._extras else [],
                seconds=time.perf_counter() - self._started,
                batch_size=self._batch_size,
            )
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Nothing: the truth is on disk, tile by tile."""
        return {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise RuntimeError("featlight resumes from the run directory, not from a checkpoint")

    def _set_images(self, images: Tensor) -> None:
        """Images of a new chunk or a new size need a new parameter, and it a new optimizer."""
        self.images = nn.Parameter(images.contiguous(memory_format=self._network.format))
        self.trainer.optimizers = [self.configure_optimizers()]

    def _end_octave(self) -> None:
        self._octaves.append(to_bytes(resize(self.images.detach(), OCTAVE_PICTURE, antialias=True)))
