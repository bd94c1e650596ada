#!/usr/bin/env python3
from danq_keras.commands.predict import cli

cli()
