"""The PostgreSQL backend of this product; see `base`."""
