"""Motifs: files, first-layer kernels from them, comparison of two."""
