#!/usr/bin/env python3
from danq_keras.commands.import_weights import cli

cli()
