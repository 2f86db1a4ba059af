"""From a route to an open, authenticated connection with an agent."""
