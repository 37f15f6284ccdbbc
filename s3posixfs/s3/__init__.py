"""The S3 client: connections, requests, XML, retries, multipart."""
