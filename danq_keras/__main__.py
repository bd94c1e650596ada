"""`python -m danq_keras COMMAND …`: every command under its module's name, such as `train`."""

import importlib
import sys

from danq_keras.commands import COMMANDS
from danq_keras.system.command import run_command
from danq_keras.system.errors import EXIT_INPUT
from danq_keras.system.terminal import show_any_text


def cli(argv: list[str] | None = None) -> int:
    """Run the command that the first word names, with the words after it.

    Returns:
        The command's exit status; 0 after the list of commands; 2 where there is none of the name.
    """
    show_any_text()
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m danq_keras COMMAND [--help] …\n\ncommands:")
        print("\n".join(f"  {name:20}{does}" for name, does in COMMANDS.items()))
        return 0 if words else EXIT_INPUT
    name = words[0].replace("-", "_")
    if name not in COMMANDS:
        print(f"Error: {words[0]}: no such command. One of {', '.join(COMMANDS)}.", file=sys.stderr)
        return EXIT_INPUT
    main = importlib.import_module(f"danq_keras.commands.{name}").main
    return run_command(lambda _: main(words[1:]))


if __name__ == "__main__":
    sys.exit(cli())
