"""The SQLite catalog: history and index of the store, behind functions that return plain values."""
