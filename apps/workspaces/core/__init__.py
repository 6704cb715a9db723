"""Decides: plain Python, no Django."""
