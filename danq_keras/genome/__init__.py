"""Sequence and coordinates: bases, FASTA files, regions, intervals, BED files."""
