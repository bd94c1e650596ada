"""From a dataset and a recipe to a trained network: order, step, loop, checkpoints, run folder."""
