"""The forms of the editor: from a blueprint's plain values and its JSON Schema to fields, and back."""
