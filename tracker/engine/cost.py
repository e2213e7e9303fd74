"""What a step of the model costs, learnt from the steps that were made: for admission, in plain Python."""

FORGET = 0.98  # weight of a step once the next one is seen: about the last fifty count


class StepCost:
    """Seconds of a step as `base + objects * each`: a straight line through the latest steps."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0  # weighted sums

    def observe(self, objects: int, seconds: float) -> None:
        """A step with so many objects took so long."""
        self._n, self._x, self._y = FORGET * self._n + 1, FORGET * self._x + objects, FORGET * self._y + seconds
        self._xx, self._xy = FORGET * self._xx + objects * objects, FORGET * self._xy + objects * seconds

    def seconds(self, objects: int) -> float:
        """What a step with so many objects will take; 0.0 as long as nothing was observed.

        Steps that all had the same number of objects tell no slope: then the time is taken to be all the objects',
        which errs on the side of refusing.
        """
        if self._n == 0:
            return 0.0
        mean_x, mean_y = self._x / self._n, self._y / self._n
        spread = self._xx / self._n - mean_x**2
        if spread < 0.01:
            return mean_y * max(1.0, objects / mean_x)
        each = max(0.0, (self._xy / self._n - mean_x * mean_y) / spread)
        base = max(0.0, mean_y - each * mean_x)
        return base + each * objects
