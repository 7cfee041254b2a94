"""Print the command block of the README that stands behind ``<!-- command: NAME -->``."""

import re
import sys
from pathlib import Path


def command(name: str) -> str:
    """The lines of the block, without the prompt."""
    text = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")
    marker = rf"<!-- command: {re.escape(name)} -->\n+"
    block = re.search(marker + r"```console\n(.*?)```", text, re.DOTALL)
    if block is None:
        sys.exit(f"README.md has no block behind <!-- command: {name} -->")
    lines = [line[2:] for line in block[1].splitlines() if line.startswith("$ ")]
    if not lines:
        sys.exit(f"the block {name} in README.md has no line that starts with '$ '")
    return "\n".join(lines)


if __name__ == "__main__":
    print(command(sys.argv[1]))
