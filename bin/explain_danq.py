#!/usr/bin/env python3
from danq_keras.commands.explain import cli

cli()
