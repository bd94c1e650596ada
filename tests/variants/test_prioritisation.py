"""Folds by hand, trees against scikit-learn, and what a simple signal must give."""

import gzip

import numpy as np
import pandas as pd
import pytest
from simulated_effects import make_effects, write_extra
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from danq_keras.system.errors import InputError
from danq_keras.variants import boosted_trees, prioritiser
from danq_keras.variants import folds as prioritisation

FEW = boosted_trees.BoostingOptions(n_trees=5, max_leaves=4, learning_rate=0.3)


def examples(rng, n):
    """Six features, of which the sum of two decides, a tenth missing."""
    features = rng.normal(size=(n, 6))
    labels = features[:, :2].sum(axis=1) + rng.normal(0, 0.5, n) > 0.5
    features[rng.random(features.shape) < 0.1] = np.nan
    return features, labels


def test_a_forest_is_the_same_from_its_json(rng):
    forest = boosted_trees.Forest.fit(*examples(rng, 300), FEW)
    new = rng.normal(0, 3, (200, 6))
    new[::3, 1] = np.nan
    again = boosted_trees.Forest.from_json(forest.to_json(), 6)
    np.testing.assert_array_equal(again.probabilities(new), forest.probabilities(new))
    assert len(np.unique(forest.probabilities(new))) > 10
    with pytest.raises(InputError, match="not a model of XGBoost"):
        boosted_trees.Forest.from_json(b"{}", 6)
    with pytest.raises(InputError, match="trees of 6 features, where 7 are needed"):
        boosted_trees.Forest.from_json(forest.to_json(), 7)


def test_a_forest_ranks_as_scikit_learns_trees_do(rng):
    features, labels = examples(rng, 2000)
    new, truth = examples(rng, 2000)
    options = boosted_trees.BoostingOptions()
    ours = boosted_trees.Forest.fit(features, labels, options).probabilities(new)
    theirs = HistGradientBoostingClassifier(
        max_iter=options.n_trees, max_leaf_nodes=options.max_leaves, class_weight="balanced"
    ).fit(features, labels)
    reference = roc_auc_score(truth, theirs.predict_proba(new)[:, 1])
    assert reference > 0.85
    assert abs(roc_auc_score(truth, ours) - reference) < 0.01


def test_both_classes_weigh_the_same():
    """Where nothing can be told apart, the rare class is as likely as the other."""
    labels = np.arange(1000) < 50
    forest = boosted_trees.Forest.fit(np.zeros((1000, 2)), labels, FEW)
    np.testing.assert_allclose(forest.probabilities(np.zeros((1, 2))), 0.5, atol=1e-3)


def test_folds_by_hand():
    """Positives at 10, 20, 30, 40: two folds part them in the middle between 20 and 30."""
    pos = np.array([40, 10, 30, 20, 24, 25, 26, 1, 99, 10])
    positive = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    chrom = np.array(["chr1"] * 10, object)
    folds = prioritisation.contiguous_folds(chrom, pos, positive, 2)
    assert folds.tolist() == [1, 0, 1, 0, 0, 0, 1, 0, 1, 0]


def test_folds_are_contiguous_and_part_no_pair(rng):
    """Each positive with three negatives within 40 kb, on four chromosomes."""
    centres = np.arange(1, 101) * 200_000
    chrom = np.repeat(np.array(["chr1", "chr10", "chr2", "chrX"], object), 25)
    pos = np.concatenate([centres, *(centres + rng.integers(-40_000, 40_000, 100) for _ in "123")])
    chroms = np.tile(chrom, 4)
    positive = np.arange(400) < 100
    order = rng.permutation(400)
    folds = np.empty(400, int)
    folds[order] = prioritisation.contiguous_folds(chroms[order], pos[order], positive[order], 10)
    assert (folds.reshape(4, 100) == folds[:100]).all()
    assert np.bincount(folds[:100]).tolist() == [10] * 10
    ordered = folds[np.lexsort([pos, chroms])]
    assert (np.diff(ordered) >= 0).all()


def test_folds_that_cannot_be():
    chrom, pos = np.array(["chr1"] * 6, object), np.array([10, 10, 500, 900, 901, 20])
    positive = np.array([1, 1, 1, 1, 0, 0], bool)
    assert prioritisation.contiguous_folds(chrom, pos, positive, 2).tolist() == [0, 0, 0, 1, 1, 0]
    with pytest.raises(InputError, match=r"places with a positive variant, 3\. Received: 4"):
        prioritisation.contiguous_folds(chrom, pos, positive, 4)
    with pytest.raises(InputError, match=r"needs a negative variant. Received: 1 of 3"):
        prioritisation.contiguous_folds(chrom, pos, positive, 3)


def test_features_by_hand(rng):
    effects = make_effects(rng, 4)
    extra = rng.normal(size=(4, 2))
    features = prioritisation.features_of(effects, extra)
    ref, alt = effects.ref_pred.astype(float), effects.alt_pred.astype(float)
    np.testing.assert_allclose(
        features[:, :3], np.log(alt / (1 - alt)) - np.log(ref / (1 - ref)), rtol=1e-9
    )
    np.testing.assert_allclose(features[:, 3:6], np.abs(alt - ref), rtol=1e-12)
    np.testing.assert_array_equal(features[:, 6:], extra)


def test_signal_is_found_and_noise_is_not(rng):
    positive = np.arange(120) < 60
    signal = rng.normal(size=(120, 3))
    signal[:60, 1] += 4
    signal[3, 2] = np.nan
    folds = np.arange(120) % 4
    found = prioritisation.cross_validate(signal, positive, folds, options=FEW, desc="fit")
    assert found.auroc.min() > 0.95
    for fold, model in enumerate(found.models):
        held_out = folds == fold
        np.testing.assert_array_equal(found.score[held_out], model.probabilities(signal[held_out]))
        assert found.auroc[fold] == roc_auc_score(positive[held_out], found.score[held_out])
        np.testing.assert_allclose(model.mean, np.nanmean(signal[~held_out], axis=0))  # inside
        np.testing.assert_allclose(model.scale, np.nanstd(signal[~held_out], axis=0))
    noise = rng.normal(size=(400, 3))
    folds, positive = np.arange(400) % 4, rng.random(400) < 0.5
    noise = prioritisation.cross_validate(noise, positive, folds, options=FEW, desc="fit")
    assert 0.35 < noise.auroc.mean() < 0.65
    again = prioritisation.cross_validate(signal, np.arange(120) < 60, np.arange(120) % 4,
                                          options=FEW, desc="fit")  # fmt: skip
    np.testing.assert_array_equal(again.score, found.score)


def test_a_column_without_a_value_outside_a_fold_is_not_looked_at(rng):
    positive = np.arange(120) < 60
    folds = np.arange(120) % 4
    features = rng.normal(size=(120, 2))
    features[:60, 0] += 4
    without = features.copy()
    features[folds != 1, 1] = np.nan  # only fold 1 has values
    without[:, 1] = 0
    found, plain = (
        prioritisation.cross_validate(values, positive, folds, options=FEW, desc="fit")
        for values in (features, without)
    )
    np.testing.assert_array_equal(found.score[folds == 1], plain.score[folds == 1])
    # no values at all
    empty = np.full((120, 1), np.nan)
    nothing = prioritisation.cross_validate(empty, positive, folds, options=FEW, desc="fit")
    assert nothing.auroc.tolist() == [0.5] * 4


def test_classes_are_balanced(rng):
    """Without signal, scores lie about a half however rare the positives are."""
    positive = np.arange(400) < 40
    features = rng.normal(size=(400, 2))
    found = prioritisation.cross_validate(
        features, positive, np.arange(400) % 4, options=FEW, desc="fit"
    )
    assert 0.4 < found.score.mean() < 0.6


def test_a_prioritiser_written_and_read_scores_the_same(rng, tmp_path):
    features = rng.normal(size=(80, 7))
    positive = features[:, 0] > 0
    found = prioritisation.cross_validate(
        features, positive, np.arange(80) % 2, options=FEW, desc="fit"
    )
    made = prioritiser.Prioritiser(
        ("a", "b", "c"), "m", "both", ("phylop",), found.models, found.auroc
    )
    path = tmp_path / "p.h5"
    prioritiser.write_prioritiser(path, made)
    read = prioritiser.read_prioritiser(path)
    np.testing.assert_array_equal(read.score(features), made.score(features))
    mean = np.mean([model.probabilities(features) for model in found.models], axis=0)
    np.testing.assert_array_equal(read.score(features), mean)
    assert (read.targets, read.model, read.strands, read.extra) == (
        made.targets, "m", "both", ("phylop",),
    )  # fmt: skip
    np.testing.assert_array_equal(read.auroc, found.auroc)


def test_extra_columns_are_joined_by_variant(rng, tmp_path):
    effects = make_effects(rng, 5)
    values = ["0.5", "NA", "-2", "", "7"]
    path = write_extra(tmp_path / "x.tsv", effects, phylop=values, gerp=range(5))
    table = pd.read_csv(path, sep="\t", dtype=str, na_filter=False)
    table.iloc[::-1].to_csv(path, sep="\t", index=False)
    names, found = prioritisation.read_extra(path, effects)
    assert names == ("phylop", "gerp")
    np.testing.assert_array_equal(found[:, 0], [0.5, np.nan, -2, np.nan, 7])
    assert found[:, 1].tolist() == [0, 1, 2, 3, 4]


def test_extra_columns_that_do_not_fit(rng, tmp_path):
    effects, path = make_effects(rng, 3), tmp_path / "x.tsv"

    def says(message):
        with pytest.raises(InputError, match=message) as caught:
            prioritisation.read_extra(path, effects)
        assert "\n" not in str(caught.value)

    says("no such file")
    path.write_text("")
    says("not a table")
    write_extra(path, effects)
    says("at least one more. Received: chrom, pos, ref, alt")
    path.write_text("chrom\tpos\tvalue\n")
    says("Received: chrom, pos, value")
    write_extra(path, effects, x=["1", "high", "2"])
    says("column 'x' must hold numbers or NA")
    for text in ("inf", "-1e300"):
        write_extra(path, effects, x=["1", text, "NA"])
        says(r"column 'x' must hold numbers up to 1e\+38, or NA. Received: -?(inf|1e\+300)")
    write_extra(path, make_effects(rng, 2), x=[1, 2])
    says("1 of 3 variants have no row, first chr3:21000:A:C")
    table = pd.read_csv(path, sep="\t")
    pd.concat([table, table]).to_csv(path, sep="\t", index=False)
    says("one row. Received several: chr1:1000:A:C")


@pytest.mark.parametrize("damage", ["bom", "windows", "hash", "gzip", "blank lines"])
def test_extra_tables_as_they_are_found(damage, rng, tmp_path):
    effects = make_effects(rng, 3)
    path = write_extra(tmp_path / "x.tsv", effects, x=["1", "NA", "3"])
    text = path.read_text()
    changed = {
        "bom": "\ufeff" + text,
        "windows": text.replace("\n", "\r\n"),
        "hash": "#" + text,
        "gzip": text,
        "blank lines": text.replace("\n", "\n\n"),
    }[damage].encode()
    path.write_bytes(gzip.compress(changed) if damage == "gzip" else changed)
    names, found = prioritisation.read_extra(path, effects)
    assert names == ("x",)
    np.testing.assert_array_equal(found[:, 0], [1, np.nan, 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\tx\n", "\tx\tx\n").replace("\t2\n", "\t2\t2\n"), "twice: 'x'"),
        (lambda text: text[: text.rindex("\t")], "every row must have the header's 5 columns"),
        (lambda text: text.replace("\t2\n", "\t2\t9\n"), "every row must have|not a table"),
        (lambda text: text.replace("\t2\n", "\t2\t9\n", 1), "not a table|every row must have"),
        (lambda text: text.replace("\tx\n", "\tx\x1b[1m\n"), "name of a column must not hold"),
        (lambda text: text.replace("chr1", 'chr1"', 1), "variants have no row"),
    ],
)
def test_a_table_that_would_be_misread_is_refused(change, message, rng, tmp_path):
    effects = make_effects(rng, 3)
    path = write_extra(tmp_path / "x.tsv", effects, x=[2, 2, 2])
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        prioritisation.read_extra(path, effects)
    assert str(caught.value).isprintable()
