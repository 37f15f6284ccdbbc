"""The filesystem: inodes, handles, attributes, listings, namespace. Knows nothing of FUSE."""
