"""The typed door: JSON over HTTP."""
