#!/usr/bin/env python3
from danq_keras.commands.extract_motifs import cli

cli()
