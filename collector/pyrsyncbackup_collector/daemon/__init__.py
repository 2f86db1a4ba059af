"""Where everything is put together: the only package that knows all others."""
