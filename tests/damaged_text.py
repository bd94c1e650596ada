"""Text files with bytes changed, lost, repeated, and with words that readers stumble over."""

from collections.abc import Iterator

import numpy as np

WORDS = (
    *(bytes([byte]) for byte in b"\t\n\r \0\x1b\xe9\"',.;>[#<"),
    *(b"1e999", b"-1", b"nan", b"9" * 50, b"1_0", b"MOTIF", b"ALPHABET", b"P0", b"//", b"#CHROM\t"),
    *(b"##fileformat", b"\r\n", b"\xff\xfe", b"\xe2\x80\xa8", b"chr1\t"),
)


def mutants(content: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """`n` variants of a file, each changed in one to four places."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        mutant = bytearray(content)
        for _ in range(int(rng.integers(1, 5))):
            begin, end = sorted(rng.integers(0, len(mutant) + 1, 2).tolist())
            match int(rng.integers(6)):
                case 0:
                    del mutant[begin:]
                case 1:
                    del mutant[begin : min(end, begin + 8)]
                case 2:
                    mutant[begin:begin] = mutant[begin:end]
                case 3:
                    mutant[begin : begin + 1] = bytes([int(rng.integers(256))])
                case _:
                    mutant[begin:begin] = WORDS[int(rng.integers(len(WORDS)))]
        yield bytes(mutant) or b" "
