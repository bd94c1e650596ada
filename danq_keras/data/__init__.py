"""Datasets: the store on disk and everything that is made into one or read beside one."""
