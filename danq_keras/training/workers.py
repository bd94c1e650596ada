"""The workers that train one network together, or the one there is: what they must agree on.

Worker 0 is the chief: it alone writes, validates and tests. The others repeat its bookkeeping from
what it tells them, so that all leave an epoch, and the training, at the same step.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from danq_keras.system.errors import InputError, WorkerLostError, one_line

# Of a peer that ended, of its machine, and of the collectives that these two leave unfinished.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class Workers:
    """The workers of a strategy.

    Args:
        strategy: of the training; its cluster is asked for number and count.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        resolver = strategy.cluster_resolver
        self._strategy = strategy
        self.several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.number = int(resolver.task_id) if self.several else 0
        self.count = len(resolver.cluster_spec().as_dict()["worker"]) if self.several else 1
        n_local = strategy.num_replicas_in_sync // self.count
        self.local_replicas = range(self.number * n_local, (self.number + 1) * n_local)
        self._sum = tf.function(self._summed, autograph=False, reduce_retracing=True)

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes."""
        return self.number == 0

    def any(self, flag: bool) -> bool:
        """Whether any worker says so; all must ask at the same step."""
        return bool(flag) if not self.several else bool(self._total([float(flag)])[0] > 0)

    def of_chief(self, values: Sequence[float]) -> npt.NDArray[np.float64]:
        """The chief's numbers, (n,) float64; the others give as many, which do not count."""
        mine = np.asarray(values, np.float64)
        if not self.several:
            return mine
        # Bit for bit, NaN and infinity included: as four 16-bit numbers each, which sums keep.
        parts = (
            mine.view(np.uint16).astype(np.float64) if self.is_chief else np.zeros(4 * len(mine))
        )
        return self._total(parts).astype(np.uint16).view(np.float64)

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse workers that differ from the chief.

        Args:
            facts: name → anything that JSON can say.

        Raises:
            InputError: on every worker, with the names of what differs on any.
        """
        if not self.several:
            return
        digests = [_digest(value) for value in facts.values()]
        theirs = self.of_chief(digests)
        differs = self._total([float(a != b) for a, b in zip(digests, theirs, strict=True)])
        names = [name for name, any_differs in zip(facts, differs, strict=True) if any_differs]
        if names:
            raise InputError(
                f"The workers have not the same {', '.join(names)}. Start all with the same "
                "command on the same data, with the same versions."
            )

    @contextlib.contextmanager
    def lost_named(self) -> Iterator[None]:
        """Make one error of the many that the loss of a worker can bring.

        Raises:
            WorkerLostError: another worker ended or cannot be reached.
        """
        try:
            yield
        except _LOST as error:
            if not self.several:
                raise
            raise WorkerLostError(
                f"A worker was lost ({one_line(error)[:120]}…). The last checkpoint is kept: start "
                "all workers again with --resume."
            ) from error

    def distributed(self, batches: tf.data.Dataset) -> Any:
        """The elements of this worker's replicas, dealt out to them in each step."""
        return self._strategy.distribute_datasets_from_function(lambda _context: batches)

    def _total(self, values: Any) -> npt.NDArray[np.float64]:
        return np.asarray(self._sum(tf.constant(values, tf.float64)).numpy())

    def _summed(self, values: tf.Tensor) -> tf.Tensor:
        """Sums over the workers: each one's first replica gives its values, the others zeros."""

        def replica_sum() -> tf.Tensor:
            replica = tf.distribute.get_replica_context()
            first = replica.replica_id_in_sync_group % len(self.local_replicas) == 0
            return replica.all_reduce("SUM", values * tf.cast(first, tf.float64))

        return self._strategy.experimental_local_results(self._strategy.run(replica_sum))[0]


def _digest(value: Any) -> float:
    """A number that tells values apart, small enough to be exact in float64."""
    text = json.dumps(value, sort_keys=True, default=str)
    return float(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big"))
