"""Shuffled sequences that keep every count of two neighbouring bases.

The sequence is a walk over the bases, an edge a pair of neighbours; a shuffle is another walk over
the same edges, drawn evenly from all of them. The last edge out of each base is drawn first, as a
random tree that leads to the sequence's last base; the others follow in any order.

Source: Altschul & Erickson, Mol. Biol. Evol. 2:526, 1985; the tree after Wilson, STOC 1996. No
well-kept package has it (uShuffle's wheels end at Python 3.8). Measured: 0.1 ms for 101 bases.
"""

import numpy as np
import numpy.typing as npt

from danq_keras.genome.dna import UNKNOWN, Bytes

_LETTERS = UNKNOWN + 1  # an unknown base is a fifth letter: its neighbours are kept too


def dinucleotide_shuffle(codes: Bytes, rng: np.random.Generator) -> Bytes:
    """A sequence with the same first and last base and the same counts of neighbouring pairs.

    Args:
        codes: (L,) uint8 base codes.
        rng: source of the random numbers.

    Returns:
        (L,) uint8 codes: one of all such sequences, each as likely.
    """
    if len(codes) < 3:
        return codes.copy()
    followers = [codes[1:][codes[:-1] == letter] for letter in range(_LETTERS)]
    last = int(codes[-1])
    final = _last_edges(followers, last, rng)
    queues = []
    for letter, after in enumerate(followers):
        others = after
        if letter in final:
            others = np.delete(after, np.flatnonzero(after == final[letter])[0])
        others = rng.permutation(others)
        queues.append([*others.tolist(), *([final[letter]] if letter in final else [])])
    taken = [iter(queue) for queue in queues]
    shuffled = np.empty_like(codes)
    shuffled[0] = here = int(codes[0])
    for place in range(1, len(codes)):
        shuffled[place] = here = next(taken[here])
    return shuffled


def _last_edges(
    followers: list[npt.NDArray[np.uint8]], root: int, rng: np.random.Generator
) -> dict[int, int]:
    """The last edge out of each base but `root`: together they lead to it from everywhere."""
    inside, final = {root}, {}
    for letter, after in enumerate(followers):
        if letter in inside or not len(after):
            continue
        here = letter
        while here not in inside:  # a later visit replaces the edge: that erases loops
            final[here] = int(rng.choice(followers[here]))
            here = final[here]
        here = letter
        while here not in inside:
            inside.add(here)
            here = final[here]
    return final
