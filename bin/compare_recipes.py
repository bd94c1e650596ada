#!/usr/bin/env python3
from danq_keras.commands.compare_recipes import cli

cli()
