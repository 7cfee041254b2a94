"""The documentation's sources, and the programs that write its outputs and tables."""
