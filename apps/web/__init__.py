"""The visible door: pages with live updates."""
