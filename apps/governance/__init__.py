"""How much may be spent, what may be done, who can stop it."""
