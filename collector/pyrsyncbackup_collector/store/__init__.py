"""Objects, manifests and logs on disk: the truth about snapshots."""
