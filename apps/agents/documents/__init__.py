"""From the bytes of a document to text, passages and a ranking; every quote stands in the text as it is."""
