"""How far the pipeline is."""
