"""Restore drills: what is kept is restored, compared, and tried out, before anybody needs it."""
