"""This mount beside s3fs-fuse, rclone, a plain client and a local filesystem, in one run."""
