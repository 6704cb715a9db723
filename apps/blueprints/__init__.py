"""What should happen: graph, versions, validation, gallery."""
