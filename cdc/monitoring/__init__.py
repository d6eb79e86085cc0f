"""How far the pipeline is: `cdc status`, `cdc wait`, lag."""
