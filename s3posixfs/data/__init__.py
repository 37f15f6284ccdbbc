"""The data path: read-ahead, block cache, staged files, uploads, budgets."""
