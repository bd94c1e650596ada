#!/usr/bin/env python3
from danq_keras.commands.train import cli

cli()
