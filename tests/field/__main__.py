"""Started by the folder's name: the folder is made the package `field` first."""

import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
if __name__ == "__main__":  # a worker of multiprocessing imports this, too
    sys.exit(import_module("field.command").main())
