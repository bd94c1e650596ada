"""DNA as numbers, against hand-worked cases and plain Python loops."""

import numpy as np
import pytest

from danq_keras.genome import dna

LETTERS = "AGCTN"
PARTNER = {"A": "T", "G": "C", "C": "G", "T": "A", "N": "N"}


def random_codes(rng: np.random.Generator, *shape: int) -> dna.Bytes:
    return rng.integers(0, 5, shape, dtype=np.uint8)


def test_channel_order_is_a_g_c_t() -> None:
    """Only a literal test can notice C and G swapped: both orders complement by flipping."""
    assert dna.ALPHABET == "AGCT"
    assert dna.encode("AGCTN").tolist() == [0, 1, 2, 3, 4]
    assert dna.onehot_from_codes(dna.encode("AGCTN")).tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    assert dna.pack_codes(dna.encode("AGCTNA")).tolist() == [0b1000_0100, 0b0010_0001, 0b0000_1000]


def test_encode_takes_any_case_and_container() -> None:
    expected = [0, 2, 1, 3, 0, 2, 1, 3]
    assert dna.encode("ACGTacgt").tolist() == expected
    assert dna.encode(b"ACGTacgt").tolist() == expected
    assert dna.encode(np.frombuffer(b"ACGTacgt", np.uint8)).tolist() == expected
    assert dna.encode("").shape == (0,)
    assert dna.encode("A").dtype == np.uint8


@pytest.mark.parametrize("letter", [*"NnRYSWKMBDHVrykm-*. 1", "é", "🧬"])
def test_everything_else_is_unknown(letter: str) -> None:
    assert dna.encode(letter).tolist() == [dna.UNKNOWN]


def test_u_of_rna_is_t() -> None:
    assert dna.encode("ACGUacgu").tolist() == dna.encode("ACGTacgt").tolist()


def test_decode_inverts_encode(rng: np.random.Generator) -> None:
    text = "".join(rng.choice(list(LETTERS), 200))
    assert dna.decode(dna.encode(text)) == text
    assert dna.decode(dna.encode("aRg")) == "ANG"


def test_reverse_complement_by_hand() -> None:
    """AACG read backwards is GCAA, complemented CGTT."""
    codes = dna.encode("AACG")
    assert dna.decode(dna.reverse_complement_codes(codes)) == "CGTT"
    packed = np.array([0b1000_1000, 0b0010_0100], np.uint8)
    assert dna.pack_codes(codes).tolist() == packed.tolist()
    assert dna.reverse_complement(packed, 4).tolist() == [0b0010_0100, 0b0001_0001]


def test_reversed_bits_is_the_byte_read_backwards() -> None:
    expected = [int(f"{byte:08b}"[::-1], 2) for byte in range(256)]
    assert dna.REVERSED_BITS.tolist() == expected
    assert dna.REVERSED_BITS.dtype == np.uint8


@pytest.mark.parametrize("shape", [(2,), (1,), (7, 1000), (7, 101), (3, 2, 12), (0, 8)])
def test_packing_agrees_with_numpy(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    codes = random_codes(rng, *shape)
    onehot = dna.onehot_from_codes(codes)
    assert onehot.shape == (*shape, 4)
    expected = np.packbits(onehot.reshape(*shape[:-1], shape[-1] * 4), axis=-1)
    for packed in (dna.pack_codes(codes), dna.pack_onehot(onehot)):
        assert packed.dtype == np.uint8
        np.testing.assert_array_equal(packed, expected)
    np.testing.assert_array_equal(dna.unpack_codes(expected, shape[-1]), codes)
    np.testing.assert_array_equal(dna.unpack_onehot(expected, shape[-1]), onehot)


@pytest.mark.parametrize("length", [1, 2, 30, 31])
def test_reverse_complements_of_all_forms_agree(rng: np.random.Generator, length: int) -> None:
    """Codes, packed rows and flipped one-hot, with unknown bases among them."""
    codes = random_codes(rng, 5, 3, length)
    expected = [
        "".join(PARTNER[base] for base in reversed(dna.decode(row)))
        for row in codes.reshape(-1, length)
    ]
    flipped = dna.reverse_complement_codes(codes)
    assert [dna.decode(row) for row in flipped.reshape(-1, length)] == expected
    packed = dna.reverse_complement(dna.pack_codes(codes), length)
    np.testing.assert_array_equal(packed, dna.pack_codes(flipped))
    onehot = dna.onehot_from_codes(codes)[..., ::-1, ::-1]
    np.testing.assert_array_equal(packed, dna.pack_onehot(onehot))


def test_reverse_complement_twice_is_identity(rng: np.random.Generator) -> None:
    codes = random_codes(rng, 40, 26)
    twice = dna.reverse_complement_codes(dna.reverse_complement_codes(codes))
    np.testing.assert_array_equal(twice, codes)
    packed = rng.integers(0, 256, (40, 13), dtype=np.uint8)  # any bits, not only one-hot
    np.testing.assert_array_equal(
        dna.reverse_complement(dna.reverse_complement(packed, 26), 26), packed
    )
    odd = packed & np.array([0xFF] * 12 + [0xF0], np.uint8)
    np.testing.assert_array_equal(dna.reverse_complement(dna.reverse_complement(odd, 25), 25), odd)


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32])
def test_pack_onehot_takes_any_number(rng: np.random.Generator, kind: type) -> None:
    codes = random_codes(rng, 4, 10)
    onehot = dna.onehot_from_codes(codes).astype(kind)
    np.testing.assert_array_equal(dna.pack_onehot(onehot), dna.pack_codes(codes))


def test_rows_of_another_length_are_refused() -> None:
    packed = np.zeros((2, 5), np.uint8)
    for read in (dna.unpack_codes, dna.unpack_onehot, dna.reverse_complement):
        for length in (8, 11):
            with pytest.raises(ValueError, match=rf"{length} bases has .* Received: 5"):
                read(packed, length)


def test_channels_must_be_last() -> None:
    with pytest.raises(ValueError, match=r"4 channels on its last axis.*\(2, 4, 8\)"):
        dna.pack_onehot(np.zeros((2, 4, 8), np.uint8))


def test_labels_by_hand() -> None:
    """The first target is the top bit; unused bits are zero."""
    labels = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 3, 0]])
    packed = dna.pack_labels(labels)
    assert packed.tolist() == [[0b1000_0000, 0b1000_0000], [0b0000_0001, 0]]
    assert dna.unpack_labels(packed, 9).tolist() == (labels > 0).astype(int).tolist()


@pytest.mark.parametrize("n_targets", [1, 7, 8, 9, 919])
def test_labels_round_trip(rng: np.random.Generator, n_targets: int) -> None:
    labels = rng.integers(0, 2, (6, n_targets), dtype=np.uint8)
    packed = dna.pack_labels(labels)
    assert packed.shape == (6, (n_targets + 7) // 8)
    assert packed.dtype == np.uint8
    unpacked = dna.unpack_labels(packed, n_targets)
    assert unpacked.dtype == np.uint8
    np.testing.assert_array_equal(unpacked, labels)
