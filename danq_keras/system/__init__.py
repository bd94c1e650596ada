"""What every command shares: errors, terminal, signals, files, HDF5, threads."""
