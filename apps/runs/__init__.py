"""The engine: makes it happen, through any crash."""
