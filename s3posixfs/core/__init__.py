"""Types, errors, object keys and the clock: no trio, no I/O, imported by every layer."""
