#!/usr/bin/env python3
from danq_keras.commands.design import cli

cli()
