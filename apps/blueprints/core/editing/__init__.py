"""A blueprint while people work on it: operations on its text, what they see of it, and what they may do."""
