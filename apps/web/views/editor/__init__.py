"""The editor: the graph with everything around it, and a page for each part that is no graph."""
