#!/usr/bin/env python3
from danq_keras.commands.experiment import cli

cli()
