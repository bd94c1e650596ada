"""What a variant changes: VCF files, effects, E-values, prioritisation."""
