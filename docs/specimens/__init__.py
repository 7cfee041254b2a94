"""Wrong routines in the form of those in tests/flaws, for words that none of those gets."""
