"""Stores in buckets: a server of S3 on loopback, and a proxy that makes its network worse."""
