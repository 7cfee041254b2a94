"""The figures behind the promises: `python tests/bench`, one module each."""
