"""The sink: cuts, folds, states of tables, shards."""
