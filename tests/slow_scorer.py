"""A scorer that takes its time, so that it can be interrupted; workers import it."""

import time

from taut.training.scoring.scorer import Scorer


class Slow(Scorer):
    """Sleeps before each part."""

    def values(self, model, batches):
        time.sleep(0.3)
        return super().values(model, batches)
