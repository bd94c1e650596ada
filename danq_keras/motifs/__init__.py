"""Motifs: files, first-layer kernels from them, comparison of two."""

from danq_keras.motifs.files import read_motif_file

__all__ = ["read_motif_file"]
