"""The nouns: tables, columns, types, policies, names, positions, records. Pure values;
nothing here opens, reads or writes anything."""
