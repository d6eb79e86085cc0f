"""Worked examples of sources; nothing in the product depends on them except `cdc demo`."""
