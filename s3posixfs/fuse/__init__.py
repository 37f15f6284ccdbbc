"""The only place that imports pyfuse3: one line an operation, one error boundary."""
