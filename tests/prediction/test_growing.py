"""Tables, tracks, ensembles, embeddings, and predictions that go on after a stop.

The network of most tests predicts the shares of A and G in a window, which are counted here.
"""

import gzip
import os
import sys
import threading
from xml.etree import ElementTree

import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
import toys

from danq_keras.commands import predict
from danq_keras.data import inputs
from danq_keras.models.networks import build_network
from danq_keras.prediction import growing, outputs, stream
from danq_keras.prediction.outputs import prediction_kind, track_names
from danq_keras.prediction.predictor import Predictor, automatic_batch_size
from danq_keras.system import errors

WINDOW, STEP = 20, 6
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(3)
    return {
        n: "".join(rng.choice(list("ACGT"), k))
        for n, k in (("chr2", 131), ("chr10", 200), ("s", 9))
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("toys")
    toys.write_fasta(folder / "g.fa", records)
    toys.save(toys.composition(WINDOW), folder / "run", ["A", "G|x/y"])
    return folder


@pytest.fixture
def command(run_script, capsys):
    def run(*arguments):
        status = run_script("predict_danq.py", predict.main, *arguments)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def refused(result):
    status, shown, errors = result
    assert (status, shown, errors.count("\n")) == (2, "", 1)
    return errors


def shares(text, strands="both"):
    """Of A and G in a window; on both strands the mean with those of T and C."""
    forward = np.array([text.count("A"), text.count("G")]) / len(text)
    if strands == "forward":
        return forward
    return (forward + np.array([text.count("T"), text.count("C")]) / len(text)) / 2


def tiles(records, step=STEP):
    return [
        (name, at, text[at : at + WINDOW])
        for name, text in records.items()
        for at in range(0, len(text) - WINDOW + 1, step)
    ]


def test_tiles_as_hdf5(files, records, tmp_path, command):
    out = tmp_path / "p.h5"
    status, shown, errors = command(files / "run", files / "g.fa", out, "--tile", STEP)
    assert status == 0
    assert "a value covers the 6 bases around the centre of its 20-base window" in shown
    assert f"{out}.skipped.tsv: 1 records without a prediction: 1 shorter than the" in errors
    expected = tiles(records)
    with h5py.File(out) as file:
        np.testing.assert_allclose(
            file["pred"][:], [shares(text) for _, _, text in expected], atol=TOLERANCE
        )
        assert file["chrom"].asstr()[:].tolist() == [name for name, _, _ in expected]
        assert file["start"][:].tolist() == [at for _, at, _ in expected]
        assert file["targets"].asstr()[:].tolist() == ["A", "G|x/y"]
        assert file.attrs["tile"] == STEP
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.h5", "p.h5.skipped.tsv"]


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz"])
def test_tables_of_chosen_targets(ending, files, records, tmp_path, command, monkeypatch):
    monkeypatch.setattr(outputs, "ROWS_AT_ONCE", 7)
    out = tmp_path / f"p{ending}"
    flags = ("--tile", STEP, "--targets", "1", "--strands", "forward")
    assert command(files / "run", files / "g.fa", out, *flags)[0] == 0
    table = pd.read_csv(out, sep="\t")
    expected = tiles(records)
    assert list(table) == ["chrom", "start", "end", "G|x/y"]
    assert table["start"].tolist() == [at for _, at, _ in expected]
    numbers = [shares(text, "forward")[1] for _, _, text in expected]
    np.testing.assert_allclose(table["G|x/y"], numbers, atol=1e-5)


def test_records_and_their_names(files, tmp_path, command):
    fasta = toys.write_fasta(tmp_path / "r.fa", {"first": "A" * 20, "β": "G" * 20, "x": "C" * 30})
    assert command(files / "run", fasta, tmp_path / "r.tsv", "--strands", "forward")[0] == 0
    table = pd.read_csv(tmp_path / "r.tsv", sep="\t")
    assert table.to_numpy().tolist() == [["first", 1.0, 0.0], ["β", 0.0, 1.0]]
    assert ", --tile STEP cuts it into windows" in (tmp_path / "r.tsv.skipped.tsv").read_text()


def test_intervals(files, records, tmp_path, command):
    bed = tmp_path / "i.bed"
    bed.write_text("chr10\t50\t51\nchr2\t3\t4\nchr2\t60\t80\n")
    out = tmp_path / "i.h5"
    status, _, errors = command(files / "run", bed, out, "--genome", files / "g.fa")
    assert status == 0
    assert "1 intervals without a prediction: 1 its window begins before" in errors
    expected = [shares(records["chr10"][40:60]), shares(records["chr2"][60:80])]
    with h5py.File(out) as file:
        np.testing.assert_allclose(file["pred"][:], expected, atol=TOLERANCE)


@pytest.mark.parametrize("ending", ["h5", "tsv"])
def test_intervals_keep_their_names_and_strands(ending, files, records, tmp_path, command):
    bed = tmp_path / "i.bed"
    long_name = "β" * 40
    bed.write_text(f"chr10\t50\t51\tNA\t0\t-\nchr2\t3\t4\tout\t0\t+\nchr2\t60\t80\t{long_name}\n")
    out = tmp_path / f"i.{ending}"
    arguments = ["--genome", files / "g.fa", "--strands", "forward"]
    assert command(files / "run", bed, out, *arguments)[0] == 0
    names, strands = ["NA", long_name], ["-", "."]
    # the strand of a feature does not turn its window
    expected = [
        shares(records["chr10"][40:60], "forward"),
        shares(records["chr2"][60:80], "forward"),
    ]
    if ending == "h5":
        with h5py.File(out) as file:
            assert file["name"].asstr()[:].tolist() == names
            assert file["strand"].asstr()[:].tolist() == strands
            np.testing.assert_allclose(file["pred"][:], expected, atol=TOLERANCE)
    else:
        table = pd.read_csv(out, sep="\t", keep_default_na=False)
        assert table.columns[:5].tolist() == ["chrom", "start", "end", "name", "strand"]
        assert (table["name"].tolist(), table["strand"].tolist()) == (names, strands)
        np.testing.assert_allclose(table[["A", "G|x/y"]], expected, atol=TOLERANCE)


def test_windows_without_bases_are_counted_across_a_stop(tmp_path, command, monkeypatch):
    fasta = toys.write_fasta(tmp_path / "n.fa", {"a": "N" * 30 + "R" * 10 + "ACGT" * 10})
    run = toys.save(toys.composition(WINDOW), tmp_path / "run", ["A", "G"])
    # windows at 0, 10 … 60 have 0, 0, 0, 10, 20, 20, 20 known bases; half of 20 is enough
    says = "o.h5: 3 windows have more unknown bases (not A, C, G, T) than known ones"
    arguments = (run, fasta, tmp_path / "o.h5", "--tile", "10", "--batch-size", "2")
    assert says in command(*arguments)[2]
    with monkeypatch.context() as patch:
        patch.setattr(growing, "SAVE_SECONDS", -1)
        Stop(patch, 4)
        assert command(*arguments, "--overwrite")[0] == 130
    (tmp_path / "o.h5").unlink()
    assert says in command(*arguments, "--resume")[2]


def test_equal_predictions_are_equal_bytes(files, tmp_path, command):
    for name in ("a.tsv.gz", "b.tsv.gz"):
        assert command(files / "run", files / "g.fa", tmp_path / name, "--tile", STEP)[0] == 0
    assert (tmp_path / "a.tsv.gz").read_bytes() == (tmp_path / "b.tsv.gz").read_bytes()


def test_tracks_of_a_packed_genome_open_over_its_lengths(files, records, tmp_path, command):
    pytest.importorskip("pyBigWig")
    packed = tmp_path / "g.fa.gz"
    packed.write_bytes(gzip.compress((files / "g.fa").read_bytes()))
    out = tmp_path / "tracks"
    assert command(files / "run", packed, out, "--tile", STEP)[0] == 0
    session = ElementTree.parse(out / "igv_session.xml").getroot()
    assert session.get("genome") == "g.fa.chrom.sizes"
    rows = [line.split("\t") for line in (out / "g.fa.chrom.sizes").read_text().splitlines()]
    assert rows == [[name, str(len(text))] for name, text in records.items()]


def test_tracks_of_a_genome_from_a_pipe_open_over_its_lengths(files, tmp_path, command):
    pytest.importorskip("pyBigWig")
    pipe = tmp_path / "g.fa"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[(files / "g.fa").read_bytes()])
    writer.start()
    out = tmp_path / "tracks"
    assert command(files / "run", pipe, out, "--tile", STEP)[0] == 0
    writer.join()
    assert ElementTree.parse(out / "igv_session.xml").getroot().get("genome") == "g.fa.chrom.sizes"


def test_tracks_cover_the_step_around_the_centre(files, records, tmp_path, command):
    bigwig = pytest.importorskip("pyBigWig")
    out = tmp_path / "tracks"
    assert command(files / "run", files / "g.fa", out, "--tile", STEP)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "A.bw", "G_x_y.bw", "igv_session.xml", "tracks.tsv",
    ]  # fmt: skip
    session = ElementTree.parse(out / "igv_session.xml").getroot()
    assert session.get("genome") == str(files / "g.fa")
    listed = [(each.get("path"), each.get("name")) for each in session.iter("Resource")]
    assert listed == [("A.bw", "A"), ("G_x_y.bw", "G|x/y")]
    assert not list(out.glob("*.sizes"))
    header, *rows = (out / "tracks.tsv").read_text().splitlines()
    assert "a value covers the 6 bases around the centre of its 20-base window" in header
    assert rows == ["file\ttarget\tvalue", "A.bw\tA\tprobability", "G_x_y.bw\tG|x/y\tprobability"]
    track = bigwig.open(str(out / "G_x_y.bw"))
    assert track.chroms() == {name: len(text) for name, text in records.items()}
    for name, text in list(records.items())[:2]:
        expected = np.full(len(text), np.nan)
        for at in range(0, len(text) - WINDOW + 1, STEP):
            expected[at + 7 : at + 13] = shares(text[at : at + WINDOW])[1]  # 20/2 - 6/2 = 7
        np.testing.assert_allclose(track.values(name, 0, len(text)), expected, atol=TOLERANCE)
    track.close()
    # folders of tracks are replaced, other folders are not
    assert command(files / "run", files / "g.fa", out, "--tile", STEP, "--overwrite")[0] == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    again = command(files / "run", files / "g.fa", tmp_path / "mine", "--tile", 6, "--overwrite")
    assert "mine: not a folder of tracks" in refused(again)


def test_one_track(files, tmp_path, command):
    bigwig = pytest.importorskip("pyBigWig")
    out = tmp_path / "a.bw"
    assert command(files / "run", files / "g.fa", out, "--tile", 20, "--targets", "A")[0] == 0
    assert bigwig.open(str(out)).intervals("chr2")[0][:2] == (0, 20)
    message = refused(command(files / "run", files / "g.fa", tmp_path / "b.bw", "--tile", 20))
    assert "b.bw: a .bw file is one track; 2 targets × 1 values" in message
    message = refused(command(files / "run", files / "g.fa", tmp_path / "c", "--tile", 21))
    assert "--tile: at most the window of 20 bases for bigWig tracks. Received: 21." in message


def test_without_pybigwig_the_extra_is_named(files, tmp_path, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyBigWig", None)
    message = refused(command(files / "run", files / "g.fa", tmp_path / "t", "--tile", 20))
    assert "pip install 'danq_keras[tracks]'" in message
    assert list(tmp_path.iterdir()) == []


def test_ensembles_are_mean_and_spread_by_target_s_name(files, records, tmp_path, command):
    """The second model names its targets the other way round; the third reads nothing."""
    toys.save(toys.composition(WINDOW), tmp_path / "turned", ["G|x/y", "A"])
    toys.save(toys.linear(np.zeros((2, WINDOW, 4))), tmp_path / "half", ["A", "G|x/y"])
    flags = ("--tile", STEP, "--ensemble", tmp_path / "turned", tmp_path / "half")
    assert command(files / "run", files / "g.fa", tmp_path / "e.h5", *flags)[0] == 0
    one = np.array([shares(text) for _, _, text in tiles(records)])
    each = np.stack([one, one[:, ::-1], np.full_like(one, 0.5)])
    with h5py.File(tmp_path / "e.h5") as file:
        np.testing.assert_allclose(file["pred"][:], each.mean(axis=0), atol=TOLERANCE)
        np.testing.assert_allclose(file["spread"][:], each.std(axis=0, ddof=1), atol=TOLERANCE)
    assert command(files / "run", files / "g.fa", tmp_path / "e.tsv", *flags)[0] == 0
    assert list(pd.read_csv(tmp_path / "e.tsv", sep="\t"))[3:] == [
        "A", "A.spread", "G|x/y", "G|x/y.spread",
    ]  # fmt: skip


def test_ensembles_that_cannot_be(files, tmp_path, command):
    toys.save(toys.composition(WINDOW), tmp_path / "other", ["A", "T"])
    toys.save(toys.composition(30), tmp_path / "longer", ["A", "G|x/y"])
    for name, message in (
        ("other", "must have the same targets. Only one of them has 2, such as 'G|x/y'."),
        ("longer", "takes windows of 30 bases"),
    ):
        flags = ("--tile", STEP, "--ensemble", tmp_path / name)
        result = command(files / "run", files / "g.fa", tmp_path / "e.h5", *flags)
        assert message in refused(result)


def test_the_embedding_is_the_dense_layer(tmp_path, command, rng):
    import keras

    network = build_network(tiny.preset().model, seed=1)
    network.save(tmp_path / "m.keras")
    letters = "".join(rng.choice(list("ACGT"), tiny.WINDOW))
    fasta = toys.write_fasta(tmp_path / "r.fa", {"r": letters})
    flags = ("--output", "embedding", "--strands", "forward")
    assert command(tmp_path / "m.keras", fasta, tmp_path / "e.h5", *flags)[0] == 0
    dense = keras.Model(network.input, network.get_layer("dense").output)
    onehot = np.zeros((1, tiny.WINDOW, 4), np.float32)
    onehot[0, np.arange(tiny.WINDOW), ["AGCT".index(base) for base in letters]] = 1
    with h5py.File(tmp_path / "e.h5") as file:
        assert sorted(file) == ["embedding", "name"]
        np.testing.assert_allclose(
            file["embedding"][:], dense.predict(onehot, verbose=0), atol=TOLERANCE
        )
    assert command(tmp_path / "m.keras", fasta, tmp_path / "e.tsv", *flags)[0] == 0
    assert list(pd.read_csv(tmp_path / "e.tsv", sep="\t"))[:2] == ["name", "unit0"]


def test_models_without_a_dense_layer_have_no_embedding(files, tmp_path, command):
    flags = ("--tile", 6, "--output", "embedding")
    message = refused(command(files / "run", files / "g.fa", tmp_path / "e.h5", *flags))
    assert "--output embedding gives the layer 'dense'" in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tile", 0), "--tile: at least 1. Received: 0."),
        (("--chroms", "chr2"), "--chroms: names the records that --tile STEP cuts"),
        (("--chrom-names", "add"), "--chrom-names: for a BED file with --genome"),
        (("--tile", 6, "--genome", "g.fa"), "--tile: for a FASTA file"),
        (("--tile", 6, "--targets", "G|x"), "Unknown target 'G|x'. Nearest: G|x/y"),
        (("--tile", 6, "--targets", "5"), "Target number 5 is not in 0 … 1"),
        (("--output", "embedding", "--targets", "A"), "--output embedding: has no targets"),
        (("--tile", 6, "--chroms", "chr3"), "--chroms: chr3 not in"),
        ((), "no record has the 20 bases of a window; 2 longer than"),
        (("--split", "test"), "--split: for a dataset folder only"),
    ],
)
def test_options_that_cannot_be(flags, message, files, tmp_path, command):
    assert message in refused(command(files / "run", files / "g.fa", tmp_path / "o.h5", *flags))
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_do_not_fit_their_options(files, tmp_path, command):
    bed = tmp_path / "i.bed"
    bed.write_text("chr2\t60\t61\n")
    out, run = tmp_path / "o.h5", files / "run"
    assert "needs its genome. Add --genome FASTA." in refused(command(run, bed, out))
    assert "--tile: for a FASTA file. Received" in refused(command(run, bed, out, "--tile", 6))
    tracks = command(run, bed, tmp_path / "t", "--genome", files / "g.fa")
    assert "bigWig tracks are of probabilities along a FASTA with --tile" in refused(tracks)
    same = command(run, files / "g.fa", files / "g.fa", "--tile", 6, "--overwrite")
    assert "predictions are an .h5, .tsv" in refused(same)
    models = files / "run" / "model.keras"
    assert "not a FASTA file" in refused(command(run, bed, out, "--genome", models))


def test_a_model_of_any_length_needs_windows(tmp_path, files, command):
    import keras

    source = keras.Input((None, 4))
    mean = keras.layers.GlobalAveragePooling1D()(source)
    keras.Model(source, mean).save(tmp_path / "any.keras")
    message = refused(command(tmp_path / "any.keras", files / "g.fa", tmp_path / "o.h5"))
    assert "takes windows of any length, so none can be cut" in message


class Stop:
    """Stops a prediction as Ctrl-C does, after some rows."""

    def __init__(self, monkeypatch, rows):
        self.seen, append = 0, growing.GrowingFile.append

        def stopping(file, values, coordinates):
            append(file, values, coordinates)
            self.seen += len(values["pred"])
            if self.seen >= rows:
                raise KeyboardInterrupt

        monkeypatch.setattr(growing.GrowingFile, "append", stopping)


@pytest.mark.parametrize("name", ["o.h5", "o.tsv", "o"])
def test_stopped_and_resumed_is_as_uninterrupted(name, files, tmp_path, command, monkeypatch):
    flags = (files / "run", files / "g.fa")
    more = ("--tile", STEP, "--batch-size", 5, "--targets", "A,1")
    assert command(*flags, tmp_path / f"whole_{name}", *more)[0] == 0
    out, partial = tmp_path / name, tmp_path / f"{name}.partial"
    with monkeypatch.context() as patch:
        patch.setattr(growing, "SAVE_SECONDS", -1)
        Stop(patch, 12)
        status, _, errors = command(*flags, out, *more)
    assert status == 130
    assert f"{partial}: 15 of 50 windows are done. --resume goes on." in errors
    assert partial.exists()
    assert not out.exists()
    assert "an unfinished prediction is there. Pass --resume" in refused(
        command(*flags, out, *more)
    )
    other = (*more[:-1], "1")
    message = refused(command(*flags, out, *other, "--resume"))
    assert "was begun with another targets" in message
    seen = []
    real = Predictor._unguarded
    monkeypatch.setattr(
        Predictor, "at_once", lambda self, rows: seen.append(len(rows)) or real(self, rows)
    )
    assert command(*flags, out, *more, "--resume")[0] == 0
    assert sum(seen) == 35
    assert not partial.exists()
    whole = tmp_path / f"whole_{name}"
    if out.is_dir():
        for path in whole.iterdir():
            assert (out / path.name).read_bytes() == path.read_bytes()
    elif name == "o.tsv":
        assert out.read_bytes() == whole.read_bytes()
    else:
        with h5py.File(out) as one, h5py.File(whole) as two:
            assert sorted(one) == sorted(two)
            for key in one:
                np.testing.assert_array_equal(one[key][:], two[key][:])
    status, shown, _ = command(*flags, out, *more, "--resume")
    assert status == 0
    assert shown.startswith(f"{out}: is complete already.")


def test_stopped_before_anything_was_saved_leaves_nothing(files, tmp_path, command, monkeypatch):
    Stop(monkeypatch, 1)
    assert command(files / "run", files / "g.fa", tmp_path / "o.h5", "--tile", STEP)[0] == 130
    assert list(tmp_path.iterdir()) == []


def test_overwrite_begins_anew(files, tmp_path, command):
    (tmp_path / "o.h5.partial").write_text("rubbish")
    flags = (files / "run", files / "g.fa", tmp_path / "o.h5", "--tile", STEP)
    assert "not a readable unfinished prediction" in refused(command(*flags, "--resume"))
    assert command(*flags, "--overwrite")[0] == 0
    assert not (tmp_path / "o.h5.partial").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.h5", "hdf5"), ("a.HDF5", "hdf5"), ("a.tsv", "table"), ("a.tsv.gz", "table"),
     ("a.bw", "track"), ("a.bigWig", "track"), ("tracks", "tracks")],
)  # fmt: skip
def test_kinds(name, kind, tmp_path):
    assert prediction_kind(tmp_path / name) == kind


def test_track_names_are_different_file_names():
    names = ["K562|CTCF|None", "K562|CTCF|None#2", "a/b", "A.b", "a b", "..", "Ä", "A_b_4"]
    files = track_names(names)
    assert len({name.lower() for name in files}) == len(names)
    assert files[0] == "K562_CTCF_None"
    assert not any(set(name) & set("/|# ") or name.startswith(".") for name in files)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    import tensorflow as tf

    network = toys.composition(WINDOW)
    real, sizes = Predictor._unguarded, []

    def small(self, packed):
        sizes.append(len(packed))
        if len(packed) > 3:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return real(self, packed)

    monkeypatch.setattr(Predictor, "_unguarded", small)
    batches = Predictor(network, window=WINDOW, strands="forward")
    batches.batch_size = 8
    packed = np.random.default_rng(0).integers(0, 256, (11, WINDOW // 2)).astype(np.uint8)
    np.testing.assert_array_equal(batches(packed), real(batches, packed))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    fixed = Predictor(network, window=WINDOW, strands="forward", batch_size=8)
    with pytest.raises(errors.InputError, match="`batch_size`: no memory for 8 windows"):
        fixed(packed)


def test_the_automatic_size_falls_with_the_network():
    small = automatic_batch_size(toys.composition(WINDOW))
    large = automatic_batch_size(build_network(tiny.preset(filters=900_000).model))
    assert small == 2048
    assert 1 <= large < 16
    assert large & (large - 1) == 0


def test_rows_of_any_blocks_come_in_batches():
    rows = np.arange(23, dtype=np.uint8)[:, None]
    for cuts in ([], [5, 6, 7], [1, 22], [10, 20]):
        batches = list(stream._batches(np.split(rows, cuts), 4))
        assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 3]
        np.testing.assert_array_equal(np.concatenate(batches), rows)


def test_windows_without_columns_have_numbers(tmp_path):
    windows = inputs.Windows(
        tmp_path, 3, 4, False, blocks=lambda first: iter([np.zeros((3, 2), np.uint8)[first:]])
    )
    assert windows.columns(0, 3) == {}
    windows.check()
