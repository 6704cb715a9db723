"""From the bytes of a document to text, passages and a ranking; every quote is found in the text as it stands."""
