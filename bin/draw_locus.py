#!/usr/bin/env python3
from danq_keras.commands.draw_locus import cli

cli()
