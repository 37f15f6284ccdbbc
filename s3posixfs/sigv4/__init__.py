"""AWS Signature Version 4: pure functions, shared by the client and the store."""
