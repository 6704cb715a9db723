"""The ten rooms; imports go down only (see ARCHITECTURE.md)."""
