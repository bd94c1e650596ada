"""Files of effects that are stopped, damaged and gone on with, against those that never were."""

import errno
import gzip
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from danq_keras.data.targets import Targets
from danq_keras.system.errors import InputError
from danq_keras.variants import growing
from danq_keras.variants.files import EffectsHeader, ScoredBlock, info_keys, skipped_path
from danq_keras.variants.growing import growing_effects, is_complete
from danq_keras.variants.vcf import Record
from danq_keras.variants.windows import Allele, Reason, SkippedAllele, VariantBlock

ENDINGS = (".h5", ".tsv", ".tsv.gz", ".vcf", ".vcf.gz")
N_BLOCKS, ROWS, TARGETS = 6, 400, 3
HEAD = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
HEADER = EffectsHeader(
    Targets(("a", "b|c", "b/c")),
    (0, 1, 2),
    N_BLOCKS * ROWS,
    True,
    False,
    {"source": "v.vcf", "model": "m"},
    HEAD,
    b"# the end\n",
)


def block(number):
    """Every fifth record is left out."""
    rng = np.random.default_rng(number)
    records, alleles, skipped = [], [], []
    for row in range(ROWS + ROWS // 5):
        pos = 1 + number * 1000 + row
        line = f"chr1\t{pos}\tné{row}\tA\tG\t.\t.\tAF={rng.random():.9f}\n".encode()
        allele = Allele("chr1", pos, f"né{row}", "A", "G")
        left_out = row % 6 == 5
        records.append((Record(*allele[:4], ("G",), line), (None if left_out else len(alleles),)))
        if left_out:
            skipped.append(SkippedAllele(allele, Reason.END))
        else:
            alleles.append(allele)
    n = len(alleles)
    rows = np.arange(n)
    cut = VariantBlock(
        np.zeros((0, 0), np.uint8), tuple(alleles), rows, rows, tuple(skipped), tuple(records)
    )
    ref, alt = rng.random((2, n, TARGETS)).astype(np.float32)
    evalue = rng.random((n, TARGETS))
    evalue[::7] = np.nan
    return ScoredBlock(cut, ref, alt, evalue)


BLOCKS = [block(number) for number in range(N_BLOCKS)]
PER_BLOCK = len(BLOCKS[0].block.records)


def write(out, *, stop=None, save=None, error=KeyboardInterrupt, request=None, **options):
    """Blocks up to `stop`, where `error` is raised; what is done after block `save` is kept."""
    with growing_effects(out, HEADER, request=request or {"of": [1]}, **options) as effects:
        for number in range(effects.records // PER_BLOCK, N_BLOCKS):
            if number == stop:
                raise error
            effects.write(BLOCKS[number])
            if number == save:
                effects.save()
    return effects.without_evalue


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Ending → the file and its list that were written without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    for ending in ENDINGS:
        write(folder / f"e{ending}")
    return {ending: contents(folder / f"e{ending}") for ending in ENDINGS}


def contents(out):
    assert not out.with_name(f"{out.name}.partial").exists()
    return out.read_bytes(), skipped_path(out).read_bytes()


def stopped(tmp_path, ending, **options):
    """An output that Ctrl-C stopped after four blocks, and its folder."""
    out = tmp_path / f"e{ending}"
    with pytest.raises(KeyboardInterrupt):
        write(out, stop=4, **options)
    assert not out.exists()
    assert not skipped_path(out).exists()
    return out, tmp_path / f"e{ending}.partial"


@pytest.mark.parametrize("ending", ENDINGS)
def test_gone_on_with_it_is_the_same_byte_for_byte(ending, tmp_path, whole):
    out, folder = stopped(tmp_path, ending)
    for path in folder.iterdir():  # what a killed process wrote after it last kept the state
        if path.suffix != ".json" and not (ending == ".h5" and path.name == "effects"):
            path.write_bytes(path.read_bytes() + b"unfinished")
    with pytest.raises(KeyboardInterrupt):
        write(out, stop=5, resume=True)
    n_without = write(out, resume=True)
    assert contents(out) == whole[ending]
    assert n_without == sum(int(np.isnan(b.evalue[:, 0]).sum()) for b in BLOCKS)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_killed_when_all_files_have_their_places(ending, tmp_path, whole):
    out, folder = stopped(tmp_path, ending)
    assert not is_complete(out)
    for path, content in zip((out, skipped_path(out)), whole[ending], strict=True):
        path.write_bytes(content)
    assert not is_complete(out)  # of an earlier scoring: the one in the folder is to replace it
    (folder / "effects").unlink()
    assert is_complete(out)
    assert contents(out) == whole[ending]
    folder.mkdir()
    assert not is_complete(out)  # just begun


def test_what_is_written_is_what_was_scored(whole, tmp_path):
    text, skipped = whole[".vcf"]
    assert gzip.decompress(whole[".vcf.gz"][0]) == text
    assert gzip.decompress(whole[".tsv.gz"][0]) == whole[".tsv"][0]
    rows = [line for line in text.splitlines(keepends=True) if not line.startswith(b"#")]
    records = [record for b in BLOCKS for record, _ in b.block.records]
    for row, record in zip(rows, records, strict=True):
        assert row.startswith(record.line.rstrip(b"\n"))
    assert text.endswith(b"# the end\n")
    assert b'##INFO=<ID=DANQ_DIFF_b_c_2,Number=A,Type=Float,Description="P(ALT) - P(REF), ' in text
    assert b"target 2: b/c" in text
    assert len(skipped.splitlines()) == 1 + N_BLOCKS * (PER_BLOCK - ROWS)
    path = tmp_path / "e.h5"
    path.write_bytes(whole[".h5"][0])
    with h5py.File(path) as file:
        assert file["id"].asstr()[:3].tolist() == ["né0", "né1", "né2"]
        assert file["pos"][ROWS] == 1001
        expected = np.concatenate([b.alt for b in BLOCKS])
        np.testing.assert_array_equal(file["alt_pred"][:], expected)
        assert set(file["max_target"].asstr()[:]) == set(HEADER.targets.names)


@pytest.mark.parametrize("ending", [".h5", ".vcf.gz", ".tsv"])
def test_a_stop_while_the_files_take_their_places(ending, tmp_path, whole):
    out, folder = stopped(tmp_path, ending)
    (folder / "skipped.tsv").replace(skipped_path(out))
    write(out, resume=True)
    assert contents(out) == whole[ending]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a changed byte": lambda folder, name: flip(folder / name, -300),
    "an early byte": lambda folder, name: flip(folder / name, 40),
    "cut": lambda folder, name: os.truncate(folder / name, 2000),
    "empty": lambda folder, name: os.truncate(folder / name, 0),
    "missing": lambda folder, name: (folder / name).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("ending", "name"),
    [(".vcf", "effects"), (".tsv.gz", "effects"), (".h5", "alleles.tsv"), (".tsv", "skipped.tsv")],
)
def test_a_damaged_part_is_refused_and_nothing_appears(damage, ending, name, tmp_path):
    out, folder = stopped(tmp_path, ending)
    DAMAGES[damage](folder, name)
    with pytest.raises(InputError, match=r"not an unfinished scoring.*`overwrite=True`"):
        write(out, resume=True)
    assert not out.exists()
    assert not skipped_path(out).exists()
    write(out, overwrite=True)
    assert out.exists()


def test_a_changed_number_in_hdf5_is_refused(tmp_path):
    out, folder = stopped(tmp_path, ".h5")
    with h5py.File(folder / "effects", "r+") as file:
        file["alt_pred"][5, 1] += 1e-6
    with pytest.raises(InputError, match="alt_pred is not what was written"):
        write(out, resume=True)
    (folder / "effects").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="not a readable unfinished scoring"):
        write(out, resume=True)


def test_a_file_system_without_locks_is_no_damage(tmp_path, monkeypatch):
    opened = h5py.File

    def without_locks(path, mode, *, locking=True, **options):
        if locking:
            raise OSError(errno.ENOLCK, "No locks available")
        return opened(path, mode, locking=locking, **options)

    monkeypatch.setattr(h5py, "File", without_locks)
    out, _ = stopped(tmp_path, ".h5")
    write(out, resume=True)
    assert out.exists()


@pytest.mark.parametrize("ending", [".h5", ".vcf"])
def test_more_rows_than_there_are_is_refused_before_anything_appears(ending, tmp_path):
    out, folder = stopped(tmp_path, ending)
    path = folder / "state.json"
    state = json.loads(path.read_text())
    state["alleles"] = 10**9
    path.write_text(json.dumps(state))
    with pytest.raises(InputError, match="does not agree with its own checksum"):
        write(out, resume=True)
    del state["checksum"]
    for text in state["texts"].values():
        text["bytes"] = 10**9
    path.write_text(json.dumps({**state, "checksum": growing._checksum(state)}))
    with pytest.raises(InputError, match="ends before the rows that are said to be done"):
        write(out, resume=True)
    path.write_text("[" * 10)
    with pytest.raises(InputError, match="not JSON"):
        write(out, resume=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == [folder.name]


def test_other_inputs_are_named(tmp_path):
    out, folder = stopped(tmp_path, ".tsv", request={"model": "a", "variants": "x", "same": [1]})
    with pytest.raises(InputError, match=r"begun with another model, variants\. Repeat"):
        write(out, resume=True, request={"model": "b", "variants": "y", "same": [1]})
    with pytest.raises(InputError, match=r"an unfinished scoring is there. Pass `resume=True`"):
        write(out)
    assert folder.exists()


def test_what_was_killed_before_it_kept_anything_is_no_obstacle(tmp_path, whole):
    folder = tmp_path / "e.tsv.partial"
    folder.mkdir()
    (folder / "effects").write_text("chrom")
    (folder / ".state.json.partial-77").write_text("{")
    write(tmp_path / "e.tsv")
    assert contents(tmp_path / "e.tsv") == whole[".tsv"]
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"never writes: thesis\.txt"):
        write(tmp_path / "e.tsv", overwrite=True)
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_names_the_output_and_keeps_what_was_kept(ending, tmp_path, whole):
    out = tmp_path / f"e{ending}"
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space") as caught:
        write(out, stop=2, error=full)
    assert caught.value.filename == str(out)
    assert list(tmp_path.iterdir()) == []  # nothing had been kept
    full = OSError(errno.ENOSPC, "No space left", str(tmp_path / f"e{ending}.partial" / "effects"))
    with pytest.raises(OSError, match="No space") as caught:
        write(out, stop=3, save=1, error=full)
    assert caught.value.filename == str(out)
    write(out, resume=True)
    assert contents(out) == whole[ending]


def test_a_mistake_leaves_nothing_and_a_second_process_waits(tmp_path):
    with pytest.raises(InputError, match="wrong"):
        write(tmp_path / "e.h5", stop=1, error=InputError("wrong"))
    assert list(tmp_path.iterdir()) == []
    with growing_effects(tmp_path / "e.tsv", HEADER, request={}) as effects:
        for each in BLOCKS:
            effects.write(each)
        with pytest.raises(InputError, match="another process is at work"):
            write(tmp_path / "e.tsv", overwrite=True)
        with pytest.raises(InputError, match=r"v\.vcf: changed while it was read"):
            effects.write(BLOCKS[0])
    assert (tmp_path / "e.tsv").exists()
    with pytest.raises(InputError, match="changed while it was read"):  # fewer than announced
        write_few(tmp_path / "f.tsv")
    (tmp_path / "g.tsv.partial").write_text("mine")
    with pytest.raises(InputError, match="is in the way"):
        write(tmp_path / "g.tsv")


def write_few(out: Path):
    with growing_effects(out, HEADER, request={}) as effects:
        effects.write(BLOCKS[0])


def test_keys_of_targets_are_valid_and_differ():
    names = ["K562|CTCF|None", "K562/CTCF/None", "a b", "a_b", "a_b_3", "é", "", "GM.1", "7"]
    keys = info_keys(names)
    assert keys[:2] == ["K562_CTCF_None_0", "K562_CTCF_None_1"]
    assert keys[5:] == ["5", "6", "GM.1", "7"]
    assert len(set(keys)) == len(keys)
    assert all(set(key) <= set("_.") | set(map(chr, range(48, 123))) for key in keys)
    assert info_keys(["a", "a_1", "a-1"]) != info_keys(["a", "b", "c"])
