"""One module a family of S3 operations; each handler is a blocking function run in a thread."""
