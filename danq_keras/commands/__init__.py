"""One parser a command; each ends in one call of the library and prints what came out."""
