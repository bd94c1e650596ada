#!/usr/bin/env python3
from danq_keras.commands.discover_motifs import cli

cli()
