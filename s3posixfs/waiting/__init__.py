"""How tasks wait: what is added to trio."""
