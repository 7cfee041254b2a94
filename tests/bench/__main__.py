"""Started by the folder's name: the folder is made the package `bench` first."""

import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.exit(import_module("bench.command").main())
