"""DanQ and its relatives for Keras 3, audited against the original 2016 stack.

Importing this package loads neither TensorFlow nor Keras: the modules that need
them (`pipeline`, `models`, `training`, `predict`, …) are imported by name.
"""

__version__ = "0.1.0"
