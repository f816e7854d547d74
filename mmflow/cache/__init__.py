"""The cache: what was made of files once, on the local disk, for all processes of a user on one machine.

Knows nothing of formats, rows or remote files: who keeps something says in an `EntryKey` what it depends on.

    place      the folder: its owner, its mode, its file system
    entry      one entry: its key, its bytes, their checks
    store      all entries under one bound, least recently used out
"""
