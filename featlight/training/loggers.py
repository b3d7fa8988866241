"""Write pictures to the loggers of a Lightning trainer, by the loggers' own interfaces.

Loggers are recognized by the names of their classes, so that those of `lightning` and `pytorch_lightning` both work,
and nothing is imported.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def _tensorboard(logger: Any, tag: str, picture: Image.Image, step: int) -> None:
    logger.experiment.add_image(tag, np.asarray(picture.convert("RGB")), step, dataformats="HWC")


def _wandb(logger: Any, tag: str, picture: Image.Image, step: int) -> None:
    logger.log_image(tag, [picture], step=step)


def _mlflow(logger: Any, tag: str, picture: Image.Image, step: int) -> None:
    logger.experiment.log_image(logger.run_id, picture, key=tag, step=step)


def _comet(logger: Any, tag: str, picture: Image.Image, step: int) -> None:
    logger.experiment.log_image(picture, name=tag, step=step)


def _neptune(logger: Any, tag: str, picture: Image.Image, step: int) -> None:
    from neptune.types import File

    logger.experiment[tag].append(File.as_image(picture), step=step)


Writer = Callable[[Any, str, Image.Image, int], None]
WRITERS: dict[str, Writer] = {
    "TensorBoardLogger": _tensorboard,
    "WandbLogger": _wandb,
    "MLFlowLogger": _mlflow,
    "CometLogger": _comet,
    "NeptuneLogger": _neptune,
}


def writer_of(logger: Any) -> Writer | None:
    """Return the function that writes a picture to a logger; None for a logger that takes none, such as CSV."""
    names = (kind.__name__ for kind in type(logger).__mro__)
    return next((WRITERS[name] for name in names if name in WRITERS), None)


def folder_of(logger: Any, default: str) -> Path:
    """Return the folder beside a logger's files.

    Args:
        logger: logger that takes no pictures; None for a trainer without loggers.
        default: folder of the trainer.
    """
    return Path(getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None) or default) / "features"


def write_file(folder: Path, layer: str, picture: Image.Image, step: int) -> None:
    """Write a picture to a file of its layer's folder."""
    path = folder / layer.replace("/", "-") / f"step-{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
