"""One of two ranks of the same trainings with and without `FeatureMonitor`; saves what it saw into a folder."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

import featlight
from featlight.training.drawer import FeatureDrawer
from tests.integration.test_lightning import Trained, state_of

RECIPE = featlight.Recipe([featlight.Octave(12, 2, (0.4, 0.3))])
RANK = int(os.environ["RANK"])


class Failing(FeatureDrawer):
    """Fails on the second rank."""

    def draw(self, *given: Any, **words: Any) -> Any:
        if RANK == 1:
            raise RuntimeError("rank 1 fails")
        return super().draw(*given, **words)


def trained(look: featlight.FeatureMonitor | None, folder: Path) -> tuple[dict[str, Any], Trained]:
    torch.manual_seed(0)
    module = Trained()
    images = TensorDataset(torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(1)))
    trainer = L.Trainer(
        max_epochs=2,
        strategy="ddp",
        devices=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[] if look is None else [look],
    )
    trainer.fit(module, DataLoader(images, 2), DataLoader(images, 2))
    seen: dict[str, Any] = {"state": state_of(trainer, module)}
    if look is not None:
        tiles = look._drawer.share(RANK, 2)
        seen |= {"drawn": [each.tile.terms[0].feature for each in tiles], "history": look.history}
        seen["names"] = [each.record["name"] for each in look._last.values()]
    return seen, module


def main(folder: Path) -> None:
    def monitor(**words: Any) -> featlight.FeatureMonitor:
        return featlight.FeatureMonitor("net.3", [0, 1, 2], recipe=RECIPE, **words)

    failing = monitor()
    failing._drawer.__class__ = Failing
    looks = {"plain": None, "shared": monitor(), "failing": failing, "out": monitor(out=folder / "runs")}
    looks["max_share"] = monitor(every_n_steps=1, max_share=1e-6)
    seen: dict[str, Any] = {}
    for name, look in looks.items():
        seen[name], module = trained(look, folder)
    expected = featlight.visualize(module, "net.3", [0, 1, 2], recipe=RECIPE, progress=False).records
    seen["expected"] = sum(each["activation_end"] or 0 for each in expected) / 3
    torch.save(seen, folder / f"rank-{RANK}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
