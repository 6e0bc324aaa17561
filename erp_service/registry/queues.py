"""How the slots of a worker are shared between queues."""

from msgspec import Struct


class QueueShare(Struct, frozen=True):
    """A queue that workers fetch from. A worker runs at most `most` of its jobs at once, and leaves `spare` slots to
    other queues: so small exports overtake large ones, however many of those run and wait.

    With `own`, it has so many slots for itself, beside those that the others share: for jobs that mostly wait for
    somebody else, and must not make others wait."""

    name: str
    most: int | None = None
    spare: int = 0
    own: int = 0

    def of(self, slots: int) -> int:
        """How many jobs of this queue a worker runs at once; `slots` are those that queues share."""
        return self.own or max(1, min(slots - self.spare, slots if self.most is None else self.most))
