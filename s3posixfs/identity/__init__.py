"""Who is who: POSIX owners, the identity map, and IAM policies."""
