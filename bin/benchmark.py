#!/usr/bin/env python3
from danq_keras.commands.benchmark import cli

cli()
