"""What the modules of the fleet are, as their agents offer them."""
