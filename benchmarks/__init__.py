"""Programs that measure s3posixfs beside its peers, in one run each."""
