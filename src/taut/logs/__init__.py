"""From files to columns: schema, readers, writers."""
