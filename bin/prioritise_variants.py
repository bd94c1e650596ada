#!/usr/bin/env python3
from danq_keras.commands.prioritise_variants import cli

cli()
