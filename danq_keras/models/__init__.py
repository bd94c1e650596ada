"""The networks: layers, initial values, trained models from disk, weights of the old stack."""
