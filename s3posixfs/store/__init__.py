"""The embedded S3-authenticated object store."""
