"""One parser a command; each ends in one call of the library and prints what came out."""

COMMANDS = {
    "train": "train, validate every epoch, test, compare and report; several seeds or folds",
    "make_dataset": "make a dataset of a genome and peaks, or of a DeepSEA bundle; look at it",
    "evaluate": "table of AUCs and report of a trained network on a dataset",
    "predict": "probabilities of every target for every window of a file or genome",
    "score_variants": "what a network says of the alleles of a VCF file",
    "prioritise_variants": "which variants are functional, learned from labelled ones",
    "extract_motifs": "what the first layer's kernels have learned, and which motifs they match",
    "explain": "which bases a prediction rests on",
    "discover_motifs": "motifs discovered from that, by TF-MoDISco",
    "experiment": "motifs put into windows or taken out, and what the network says",
    "draw_locus": "what networks say along a region, beside peaks and genes",
    "design": "sequences that reach wanted predictions",
    "compare_aucs": "AUC tables against the paper's models, or against another table",
    "compare_recipes": "presets on datasets with several seeds, in one table",
    "tune": "look for better sizes and dropout with Optuna",
    "import_weights": "weights of the old stack to a .keras model, and back",
    "benchmark": "speed and memory, each as a ratio to a yardstick of the same call",
}
