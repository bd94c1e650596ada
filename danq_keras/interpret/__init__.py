"""What a network has learned: explanations of windows, motifs of its first layer, insertions."""
