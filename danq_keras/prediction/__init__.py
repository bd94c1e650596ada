"""What a network says of any number of windows, in memory or written to files as it comes."""
