"""What must be true before a start, and the SQL that mends it: `cdc doctor`, and every start."""
