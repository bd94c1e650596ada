"""Labelled sequences of tables, frames and FASTA files: datasets, or one line of refusal."""

import gzip
import itertools

import numpy as np
import pandas as pd
import pytest

import danq_keras as dq
from danq_keras.commands import make_dataset
from danq_keras.data.build_sequences import IN_OTHER_SPLIT
from danq_keras.data.duplicates import count_duplicates
from danq_keras.data.labelled import read_fasta
from danq_keras.data.store import SPLITS, open_store
from danq_keras.genome import dna
from danq_keras.genome.shuffle import dinucleotide_shuffle
from danq_keras.system.errors import InputError

LENGTH = 31


def sequences(rng, n, length=LENGTH):
    return ["".join(rng.choice(list("ACGT"), length)) for _ in range(n)]


def table(rng, n=60, **columns):
    return pd.DataFrame({"sequence": sequences(rng, n), "label": [0, 1] * (n // 2), **columns})


def rows_of(split):
    """Letters, labels and which labels count, row by row, as plain Python sees the file."""
    letters = [dna.decode(row) for row in dna.unpack_codes(split.sequence, split.header.window)]
    labels = dna.unpack_labels(split.labels, split.n_targets)
    known = np.ones_like(labels)
    if split.ignore is not None:
        known = 1 - dna.unpack_labels(split.ignore, split.n_targets)
    return letters, labels.tolist(), known.tolist()


def all_rows(dataset):
    parts = [rows_of(dataset.split(name)) for name in SPLITS]
    return [
        row for letters, labels, known in parts for row in zip(letters, labels, known, strict=True)
    ]


def test_a_table_with_splits_keeps_every_row_in_its_split(tmp_path, rng):
    words = ["train", "Training", "valid", "dev", "test", "test"] * 10
    frame = table(rng, split=words)
    path = tmp_path / "GABPA.tsv.gz"
    frame.to_csv(path, sep="\t", index=False)
    dataset = dq.build_dataset_from_sequences(tmp_path / "out", path)
    assert dataset.targets.names == ("GABPA",)
    assert dataset.window == LENGTH
    for name, members in (("train", words[:2]), ("valid", words[2:4]), ("test", ["test"])):
        expected = frame[frame.split.isin(members)]
        letters, labels, _ = rows_of(dataset.split(name))
        assert letters == expected.sequence.tolist()
        assert [row[0] for row in labels] == expected.label.tolist()
        assert dataset.split(name).header.strands == "both"


def test_rna_letters_and_case_and_comma(tmp_path):
    path = tmp_path / "clip.csv"
    path.write_text("Seq,bound,id\nacguN,1,x\nACGUU,0,y\nGGGGG,1.0,z\nGGGGC,0,w\n")
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", path, valid_fraction=0, test_fraction=0, strands="given"
    )
    letters, labels, _ = rows_of(dataset.train)
    assert letters == ["ACGTN", "ACGTT", "GGGGG", "GGGGC"]
    assert labels == [[1], [0], [1], [0]]
    assert dataset.targets.names == ("bound",)
    assert dataset.train.header.strands == "as given"


def test_several_tables_know_nothing_of_each_others_targets(tmp_path, rng):
    frames = {"A": table(rng, 20, split=["train"] * 10 + ["valid"] * 10), "B": table(rng, 40)}
    frames["B"]["split"] = ["train"] * 20 + ["test"] * 20
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", [tmp_path / "A.csv", tmp_path / "B.csv"]
    )
    same = dq.build_dataset_from_sequences(tmp_path / "same", frames)
    expected = {}
    for column, frame in enumerate(frames.values()):
        for text, label in zip(frame.sequence, frame.label, strict=True):
            labels, known = [0, 0], [0, 0]
            labels[column], known[column] = label, 1
            expected[text] = (labels, known)
    for found in (dataset, same):
        assert {text: (labels, known) for text, labels, known in all_rows(found)} == expected


def test_empty_cells_do_not_count(tmp_path, rng):
    frame = pd.DataFrame(
        {"sequence": sequences(rng, 4), "a": [1, None, 0, 1], "b": ["0", "1", "NA", ""]}
    )
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", frame, valid_fraction=0, test_fraction=0
    )
    _, labels, known = rows_of(dataset.train)
    assert labels == [[1, 0], [0, 1], [0, 0], [1, 0]]
    assert known == [[1, 1], [0, 1], [1, 0], [1, 0]]


def test_lists_of_targets(tmp_path, rng):
    for name, lists in (("one", ["CTCF;REST", "", "REST"]), ("two", ["SP1", "", "CTCF"])):
        frame = pd.DataFrame({"sequence": sequences(rng, 3), "targets": lists})
        frame["split"] = "train"
        frame.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", [tmp_path / "one.tsv", tmp_path / "two.tsv"], valid_fraction=0
    )
    assert dataset.targets.names == ("CTCF", "REST", "SP1")
    _, labels, known = rows_of(dataset.train)
    assert labels == [[1, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert known == [[1, 1, 1]] * 6  # whoever lists all that bind says 0 of the others


def test_files_named_as_splits(tmp_path, rng):
    folder = tmp_path / "tf0"
    folder.mkdir()
    for name in ("train", "dev", "test"):
        table(rng, 10).to_csv(folder / f"{name}.csv", index=False)
    dataset = dq.build_dataset_from_sequences(tmp_path / "out", sorted(folder.iterdir()))
    assert dataset.targets.names == ("tf0",)
    assert [dataset.split(name).n_windows for name in SPLITS] == [10, 10, 10]


def write_fasta(path, texts):
    text = "".join(f">same name\n{one[:10]}\n{one[10:]}\n" for one in texts)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_two_fasta_files(tmp_path, rng):
    bound, unbound = sequences(rng, 30), sequences(rng, 20)
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out",
        positives=write_fasta(tmp_path / "CTCF.fa.gz", bound),
        negatives=write_fasta(tmp_path / "rest.fa", unbound),
        seed=3,
    )
    assert dataset.targets.names == ("CTCF",)
    assert [dataset.split(name).n_windows for name in SPLITS] == [40, 5, 5]
    found = {text: labels[0] for text, labels, _ in all_rows(dataset)}
    assert found == dict.fromkeys(bound, 1) | dict.fromkeys(unbound, 0)


def test_twins_stay_on_one_side_and_fractions_are_kept(tmp_path, rng):
    """Families of shifted copies, on both strands, each wholly in one split."""
    texts, family = [], []
    for number, whole in enumerate(sequences(rng, 200, 105)):
        for shift in range(3):
            text = whole[shift : shift + 101]
            texts.append(text if shift < 2 else reverse(text))
            family.append(number)
    frame = pd.DataFrame({"sequence": texts, "label": np.array(family) % 2})
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", frame, valid_fraction=0.2, test_fraction=0.1, seed=1
    )
    assert [dataset.split(name).n_windows for name in SPLITS] == [420, 120, 60]
    of_text = dict(zip(texts, family, strict=True))
    homes = [{of_text[text] for text in rows_of(dataset.split(name))[0]} for name in SPLITS]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 200
    again = dq.build_dataset_from_sequences(
        tmp_path / "again", frame, valid_fraction=0.2, test_fraction=0.1, seed=1
    )
    assert rows_of(again.test) == rows_of(dataset.test)


def reverse(text):
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


def pairs(text):
    return sorted(itertools.pairwise(text))


@pytest.mark.parametrize("copies", [1, 3])
def test_shuffled_negatives_keep_pairs_and_split(tmp_path, rng, copies):
    texts = sequences(rng, 30, 60)
    words = ["train"] * 10 + ["valid"] * 10 + ["test"] * 10
    frame = pd.DataFrame({"sequence": texts, "label": 1, "split": words})
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", frame, negatives=f"shuffle:{copies}"
    )
    for number, name in enumerate(SPLITS):
        letters, labels, _ = rows_of(dataset.split(name))
        own = texts[number * 10 : number * 10 + 10]
        assert letters[:10] == own
        assert [row[0] for row in labels] == [1] * 10 + [0] * 10 * copies
        expected = [pairs(text) for text in own for _ in range(copies)]
        assert [pairs(text) for text in letters[10:]] == expected
        assert len(set(letters)) == len(letters)


def test_every_shuffle_of_a_sequence_is_as_likely():
    """24 walks have the pairs of ACAGATACCA (counted by hand from all permutations)."""
    rng = np.random.default_rng(5)
    codes = dna.encode("ACAGATACCA")
    found = [dna.decode(dinucleotide_shuffle(codes, rng)) for _ in range(24_000)]
    counts = pd.Series(found).value_counts()
    assert len(counts) == 24
    assert all(pairs(text) == pairs("ACAGATACCA") for text in counts.index)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 49.7  # 23 degrees of freedom, p = 0.001


def test_unequal_lengths_can_be_fitted(tmp_path):
    frame = pd.DataFrame({"sequence": ["ACGTACG", "GGG", "TTTTT"], "label": [1, 0, 1]})
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", frame, window=5, valid_fraction=0, test_fraction=0
    )
    assert rows_of(dataset.train)[0] == ["CGTAC", "NGGGN", "TTTTT"]


BASE = ["AAAAA", "CCCCC", "GAGAG", "TCTCA"]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"sequence": ["AAAAA", "CCCC", "GAGAG", "T"]},
            {},
            "one length. Received: 5 bases in row 2, 4 in row 3; 1 to 5",
        ),
        (
            {"sequence": ["AAAAA", "CC*CC", "GAGAG", "TCTCA"]},
            {},
            r"row 3: bases are .*'\*' at base 3, 1 such",
        ),
        (
            {"sequence": ["AAAAA", "AAAAA", "GAGAG", "TCTCA"]},
            {},
            "1 sequences stand there with different labels, such as .*row 2 and .*row 3",
        ),
        (
            {"sequence": ["AAAAC", "GTTTT", "GAGAG", "TCTCA"]},
            {},
            "1 sequences stand there with different labels",
        ),
        ({"label": [0, 1, 2, 1]}, {}, "row 4: a label is 0, 1 or empty.*'2' in column label"),
        ({"other": [0, 1, 1, 7]}, {}, "row 5: a label is 0, 1 or empty.*'7' in column other"),
        ({"label": [1, 1, 1, 1]}, {}, "train split has no negative .*negatives. shuffle"),
        ({"label": [0, 0, 0, 0]}, {}, "train split has no positive"),
        (
            {"split": ["train", "train", "tset", "test"]},
            {},
            "row 4: a split is train, valid or test.*'tset'",
        ),
        (
            {"split": ["train", "train", "test", "test"]},
            {"test_fraction": 0.1},
            "have their splits",
        ),
        ({"split": ["valid", "valid", "test", "test"]}, {}, "no training sequences"),
        (
            {"split": ["train", "train", "test", "test"], "label": [0, 1, 1, 1]},
            {"valid_fraction": 0},
            "test split has no negative",
        ),
        ({}, {"sequence_column": "dna"}, "no column 'dna'. Received: sequence, label"),
        ({}, {"label_columns": ["x"]}, "no column 'x'"),
        ({}, {"valid_fraction": 0.6, "test_fraction": 0.4}, "together below 1"),
        ({}, {"negatives": "genome"}, "shuffle or shuffle:K for sequences"),
        ({}, {"negatives": "shuffle:0"}, "K from 1 on"),
        ({}, {"negatives": "file.fa"}, "a FASTA file with `positives`"),
        ({}, {"strands": "forward"}, "one of both, given"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, columns, options, message):
    frame = pd.DataFrame({"sequence": BASE, "label": [0, 1, 0, 1]} | columns)
    out = tmp_path / "out"
    fractions = {} if "split" in columns else {"valid_fraction": 0, "test_fraction": 0}
    with pytest.raises(InputError, match=message):
        dq.build_dataset_from_sequences(out, frame, **fractions | options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("conflicts", "kept"), [("drop", 2), ("keep", 4)])
def test_contradictions_are_counted(tmp_path, conflicts, kept, messages):
    frame = pd.DataFrame({"sequence": ["AAAAA", "AAAAA", "GAGAG", "TCTCA"], "label": [0, 1, 0, 1]})
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", frame, conflicts=conflicts, valid_fraction=0, test_fraction=0
    )
    assert dataset.train.n_windows == kept
    assert sum(dataset.summary.bins_left_out.values()) == 4 - kept
    assert "1 sequences stand there with different labels" in messages.text


def test_given_strand_makes_other_strands_other_sequences(tmp_path):
    frame = pd.DataFrame({"sequence": ["AAAAC", "GTTTT"], "label": [0, 1]})
    dataset = dq.build_dataset_from_sequences(
        tmp_path / "out", frame, strands="given", valid_fraction=0, test_fraction=0
    )
    assert dataset.train.n_windows == 2


def test_shared_sequences_of_given_splits_are_told_or_dropped(tmp_path, rng, messages):
    texts = sequences(rng, 8)
    frame = pd.DataFrame(
        {
            "sequence": [*texts[:4], texts[0], reverse(texts[1]), *texts[4:6]],
            "label": [0, 1, 0, 1, 0, 1, 0, 1],
            "split": ["train"] * 4 + ["test"] * 4,
        }
    )
    kept = dq.build_dataset_from_sequences(tmp_path / "a", frame, valid_fraction=0)
    assert kept.train.n_windows == 4
    assert "2 of 4 test sequences (50.0%) are in training too, or nearly" in messages.text
    assert "2 of 4 test sequences (50.0%)" in kept.train.header.source
    dropped = dq.build_dataset_from_sequences(
        tmp_path / "b", frame, valid_fraction=0, drop_shared=True
    )
    assert rows_of(dropped.train)[0] == texts[2:4]
    assert dropped.summary.bins_left_out[IN_OTHER_SPLIT] == 2
    assert "in training too" not in dropped.train.header.source


def joined_tables(rng, n_shared):
    """Two factors: `n_shared` of 200 test peaks, all of B, are training peaks of A, moved by 5."""
    wholes = sequences(rng, 600, 111)
    frame = {name: [] for name in ("A", "B")}
    for number, whole in enumerate(wholes):
        split = "test" if number % 3 == 2 else "train"
        frame["AB"[number % 2]].append((whole[:101], split, number % 4 // 2))
    tests = [row for row in frame["B"] if row[1] == "test"][:n_shared]
    of_text = {whole[:101]: whole for whole in wholes}
    for number, (text, _, label) in enumerate(tests):
        moved = of_text[text][5:106]
        frame["A"].append((moved if number % 2 else reverse(moved), "train", label))
    columns = ["sequence", "split", "label"]
    return {name: pd.DataFrame(rows, columns=columns) for name, rows in frame.items()}


def test_near_shared_sequences_across_tables_are_told_or_dropped(tmp_path, rng, messages):
    """What one table tests on, another may train on: a peak of two factors, some bases off."""
    tables = joined_tables(rng, 20)
    kept = dq.build_dataset_from_sequences(tmp_path / "a", tables, valid_fraction=0)
    assert "20 of 200 test sequences (10.0%) are in training too, or nearly" in messages.text
    assert kept.train.n_windows == 420
    dropped = dq.build_dataset_from_sequences(
        tmp_path / "b", tables, valid_fraction=0, drop_shared=True
    )
    assert dropped.train.n_windows == 400
    assert count_duplicates(dropped)[0].near == 0


def test_a_rare_shared_sequence_is_told_without_a_warning(tmp_path, rng, messages):
    tables = joined_tables(rng, 1)
    dataset = dq.build_dataset_from_sequences(tmp_path / "a", tables, valid_fraction=0)
    assert "1 of 200 test sequences (0.5%) are in training too" in messages.text
    assert "owe something to memory" not in messages.text
    assert "in training too" not in dataset.train.header.source


def test_nothing_left_to_train_on_is_refused(tmp_path, rng):
    frame = table(rng, 8).assign(split=["train", "test"] * 4)
    frame.loc[::2, "sequence"] = frame.loc[1::2, "sequence"].to_numpy()
    frame.loc[::2, "label"] = frame.loc[1::2, "label"].to_numpy()
    with pytest.raises(InputError, match="each of the 4 training sequences is in validation"):
        dq.build_dataset_from_sequences(tmp_path / "a", frame, valid_fraction=0, drop_shared=True)


def test_the_command(tmp_path, rng, capsys):
    table(rng).to_csv(tmp_path / "REST.csv", index=False)
    words = ["sequences", tmp_path / "out", "--table", tmp_path / "REST.csv", "--seed", "4"]
    assert make_dataset.main([str(word) for word in words]) == 0
    text = capsys.readouterr().out
    assert "1 target, windows" in text
    assert "Sequences left out: 0" in text
    assert open_store(tmp_path / "out").targets.names == ("REST",)


def test_the_command_names_its_flags(tmp_path, rng, capsys, run_script):
    path = tmp_path / "REST.csv"
    table(rng, 4).assign(label=1).to_csv(path, index=False)
    words = ["sequences", tmp_path / "out", "--table", path]
    assert run_script("make_dataset.py", make_dataset.main, *words) == 2
    error = capsys.readouterr().err
    assert "`" not in error
    assert "--negatives shuffle" in error


def test_positives_that_are_negatives_too(tmp_path, rng):
    texts = sequences(rng, 10)
    with pytest.raises(
        InputError, match=r"2 sequences stand there .*bound.fa, row 1 and .*un.fa, row 1"
    ):
        dq.build_dataset_from_sequences(
            tmp_path / "out",
            positives=write_fasta(tmp_path / "bound.fa", texts),
            negatives=write_fasta(tmp_path / "un.fa", texts[:2] + sequences(rng, 8)),
        )


@pytest.mark.parametrize(
    "text",
    [
        ">a\rACGU\rAC\r>a\rGGTTAA\r",
        "\ufeff;old\n>a x\nAC GU\n\nAC\n;more >\n>a\n GGTTAA \n",
        ">a\r\nACGU\r\nAC\r\n>a\r\nGGTTAA",
    ],
)
def test_fasta_records_are_read_by_their_letters(tmp_path, caplog, text):
    path = tmp_path / "x.fa"
    path.write_bytes(text.encode())
    found = read_fasta(path, "x", 1)
    assert [dna.decode(row) for row in found.codes] == ["ACGTAC", "GGTTAA"]
    assert "has both T and U: 1 U are read as T" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">a\nACG\n>b\n>c\nACG\n", r"needs a sequence. Received none in record 2\. Leave"),
        ("ACG\n>a\nACG\n", "begins with '>'. Received: 'ACG'"),
        ("", "begins with '>'. Received: 'an empty file'"),
        (">a\nAC-G\n", "Received: '-' at base 3"),
    ],
)
def test_what_is_no_fasta_of_sequences_is_refused(tmp_path, text, message):
    path = tmp_path / "x.fa"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_fasta(path, "x", 1)


# ── tables that would be read with another meaning ──────────────────────────


def build(tmp_path, text, **options):
    path = tmp_path / "lab.tsv"
    path.write_text(text)
    return dq.build_dataset_from_sequences(
        tmp_path / "out", path, valid_fraction=0, test_fraction=0, **options
    )


def lines_of(rng, notes, *, header="sequence\tnote\tlabel"):
    rows = zip(sequences(rng, len(notes)), notes, itertools.cycle("01"))
    return "\n".join([header, *("\t".join(row) for row in rows)]) + "\n"


@pytest.mark.parametrize(
    "notes", [['"alpha', "x", 'beta"', "y"], ['"', '"', "x", "y"], ["x", "y", "z", '"w']]
)
def test_quotes_that_join_rows_are_refused(tmp_path, rng, notes):
    with pytest.raises(InputError, match=r"line break|not a table: row [0-9]"):
        build(tmp_path, lines_of(rng, notes))


def test_quotes_around_and_inside_of_cells_are_text(tmp_path, rng):
    notes = ['"alpha beta"', "5'", 'a"b', "x"]
    assert build(tmp_path, lines_of(rng, notes)).train.n_windows == 4


def test_a_row_that_is_cut_short_is_refused(tmp_path, rng):
    text = lines_of(rng, ["x"] * 4)
    with pytest.raises(InputError, match="row 5 of the file has 2 cells, the header has 3"):
        build(tmp_path, text[: text.rstrip().rfind("\t")])


@pytest.mark.parametrize(("first", "sep"), [("", ";"), ("sep=;\n", ";"), ("sep=,\n", ",")])
def test_tables_as_spreadsheets_write_them(tmp_path, rng, first, sep):
    text = first + lines_of(rng, ["x"] * 4, header="sequence\tnote\tlabel").replace("\t", sep)
    assert build(tmp_path, text).train.n_windows == 4
    named = lines_of(rng, ["x"] * 4).replace("1\n", "TRUE\n").replace("0\n", "FALSE\n")
    dataset = build(tmp_path, named, overwrite=True)
    assert [row[1] for row in all_rows(dataset)] == [[0], [1], [0], [1]]


def test_columns_of_one_name_are_refused(tmp_path, rng):
    with pytest.raises(InputError, match="Received twice: 'label'"):
        build(tmp_path, lines_of(rng, ["1"] * 4, header="sequence\tlabel\tlabel"))


def test_a_column_of_targets_beside_columns_of_labels_is_refused(tmp_path, rng):
    text = lines_of(rng, ["2", "3", "2", "0"], header="sequence\ttargets\tCTCF")
    with pytest.raises(InputError, match="`label_columns` or `targets_column`"):
        build(tmp_path, text)
    assert build(tmp_path, text, label_columns="CTCF").targets.names == ("CTCF",)


def test_places_are_no_labels(tmp_path, rng, caplog):
    text = lines_of(rng, ["1"] * 4, header="sequence\tchrom\tCTCF")
    with caplog.at_level("INFO"):
        assert build(tmp_path, text).targets.names == ("CTCF",)
    assert "left out: column chrom" in caplog.text


@pytest.mark.parametrize("missing", ["NA", "nan", "", "N/A"])
def test_a_missing_sequence_is_refused(tmp_path, rng, missing):
    text = lines_of(rng, ["x"] * 4).replace("\tx", "\tx", 1)
    rows = text.split("\n")
    rows[2] = missing + rows[2][LENGTH:]
    with pytest.raises(InputError, match="row 3: no sequence, and 0 more"):
        build(tmp_path, "\n".join(rows), window=30)


def test_a_missing_sequence_of_a_frame_is_refused(tmp_path, rng):
    frame = table(rng)
    frame.loc[4, "sequence"] = None
    with pytest.raises(InputError, match="row 6: no sequence"):
        dq.build_dataset_from_sequences(tmp_path / "out", frame)


def test_a_negative_seed_is_refused(tmp_path, rng):
    with pytest.raises(InputError, match="`seed`: a whole number from 0 up"):
        dq.build_dataset_from_sequences(tmp_path / "out", table(rng), seed=-1)
