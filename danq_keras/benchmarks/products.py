"""The machine's own rate of float32 matrix products, beside which every figure of speed stands."""

import time

_SIZE = 3000
_TIMES = 5


def product_rate() -> float:
    """Float32 operations a second of numpy's product of two 3,000 × 3,000 matrices, the best of 5.

    Machines with AVX-512 reach several times as many as those without, and so do their trainings.
    """
    import numpy as np

    matrix = np.random.default_rng(0).random((_SIZE, _SIZE), np.float32)
    matrix @ matrix
    seconds = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - started)
    return 2 * _SIZE**3 / min(seconds)


def tell_products() -> float:
    """Measure it, print a line that says it, and give it."""
    from danq_keras.system.threads import n_threads

    rate = product_rate()
    print(f"this machine: {n_threads()} cores, {rate / 1e9:.0f} GFLOP/s in float32 matrix products")
    return rate
