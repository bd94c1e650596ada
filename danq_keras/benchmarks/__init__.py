"""Yardsticks: speed and memory beside something that everybody knows, in the same call."""
