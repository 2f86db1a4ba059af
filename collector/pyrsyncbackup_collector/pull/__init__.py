"""One pull: compare, hash, transfer in the sandbox, take in, commit."""
