#!/usr/bin/env python3
from danq_keras.commands.make_dataset import cli

cli()
