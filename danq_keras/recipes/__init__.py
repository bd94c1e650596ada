"""Settings: of a network, of a training, the published presets, and their fit to a user's data."""
