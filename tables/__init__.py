"""State: the RocksDB store with its due index, and the pure rules that decide how a row changes."""
