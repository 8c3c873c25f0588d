"""Tools around a manifest: write a first one, check every image that it names, lock what it rests on.

All of them return data; the command line prints it.
"""
