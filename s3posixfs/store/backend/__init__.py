"""Objects as plain files in a directory: blocking functions, called in threads, no trio."""
