"""What the administrator wrote: TOML in, validated and frozen configuration out."""
