"""What commands print: tables, facts, progress."""
