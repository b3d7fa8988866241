"""What pictures cost in a training, and whether the next one is within the user's bound."""

import time
from dataclasses import dataclass, field


@dataclass
class Cost:
    """The time that pictures take, against the time of the training.

    Args:
        max_share: largest share of the training's time; None for no bound.
        started: time at which the training began.
        spent: seconds of all pictures.
        last: seconds of the last picture.
        drawn: number of times at which pictures were drawn.
        left_out: number of times at which none was drawn, because of the bound.
    """

    max_share: float | None
    started: float = field(default_factory=time.monotonic)
    spent: float = 0.0
    last: float = 0.0
    drawn: int = 0
    left_out: int = 0

    @property
    def total(self) -> float:
        """Seconds since the training began, pictures included."""
        return time.monotonic() - self.started

    def allows(self) -> bool:
        """Return whether one more picture, as slow as the last one, stays within the bound; the first one does."""
        return self.max_share is None or self.spent + self.last <= self.max_share * (self.total + self.last)

    def add(self, seconds: float) -> None:
        """Count a picture."""
        self.spent, self.last, self.drawn = self.spent + seconds, seconds, self.drawn + 1

    def __str__(self) -> str:
        share = self.spent / max(self.total, self.spent, 1e-9)
        text = f"{self.drawn} drawn in {self.spent:.1f} s, {share:.1%} of the training's {self.total:.1f} s"
        return text + (f", {self.left_out} left out (max_share {self.max_share})" if self.left_out else "")
