"""S3 for hosts with many users: a FUSE filesystem and an S3 store that share one identity."""

__version__ = "0.1.0"
