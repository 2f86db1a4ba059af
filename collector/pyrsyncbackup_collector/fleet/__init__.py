"""The hosts that are backed up and the route to each."""
