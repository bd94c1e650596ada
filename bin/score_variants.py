#!/usr/bin/env python3
from danq_keras.commands.score_variants import cli

cli()
