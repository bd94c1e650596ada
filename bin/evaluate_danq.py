#!/usr/bin/env python3
from danq_keras.commands.evaluate import cli

cli()
