#!/usr/bin/env python3
from danq_keras.commands.tune import cli

cli()
