"""What a dataset holds, as text: its splits, and its targets.

Only counts are read: the labels of each split, block by block, never the sequences.
"""

from danq_keras.data.store import SPLITS, Dataset, count_positives


def describe_dataset(dataset: Dataset) -> str:
    """Windows, positive labels, source and fingerprints of the splits as lines of text.

    Args:
        dataset: open dataset, whose labels are read.
    """
    train, splits = dataset.train, [(name, dataset.split(name)) for name in SPLITS]
    lines = [
        f"{dataset.folder}: {len(dataset.targets)} targets, windows of {dataset.window} bases, "
        f"bins of {train.header.bin}",
        f"  {'split':<6}{'windows':>12}{'positive labels':>17}{'share':>9}  strands",
    ]
    for name, split in splits:
        positives = int(count_positives(split).sum())
        n_labels = split.n_windows * split.n_targets
        share = f"{positives / n_labels:.2%}" if n_labels else "NA"
        counts = f"  {name:<6}{split.n_windows:>12,}{positives:>17,}{share:>9}"
        lines.append(f"{counts}  {split.header.strands_meant}")
    lines += [
        f"source: {train.header.source}",
        f"created: {train.created} by danq_keras {train.package_version}",
        f"coordinates: {'yes' if train.start is not None else 'no'}; "
        f"labels that do not count: {'yes' if train.ignore is not None else 'no'}",
    ]
    lines += [f"{name}.h5: fingerprint {split.fingerprint[:16]}" for name, split in splits]
    return "\n".join(lines)


def describe_targets(dataset: Dataset) -> str:
    """Number, name, group and positive windows of each target, a line each, separated by tabs.

    Args:
        dataset: open dataset, whose labels are read.
    """
    counts = [count_positives(dataset.split(name)).tolist() for name in SPLITS]
    groups = dataset.targets.column("group")
    lines = ["target\tname\tgroup\tpositives in train\tvalid\ttest"]
    for target, name in enumerate(dataset.targets.names):
        numbers = "\t".join(str(count[target]) for count in counts)
        lines.append(f"{target}\t{name}\t{groups[target]}\t{numbers}")
    return "\n".join(lines)
