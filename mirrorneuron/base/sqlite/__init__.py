"""Django's SQLite backend with one write lock in front (ENGINE rule 5)."""
