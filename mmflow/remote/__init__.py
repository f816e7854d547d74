"""Remote files (fsspec): paged into a sparse local file, block by block, and mapped from there.

Knows nothing of shards, records or formats. Only `remote.store` imports fsspec, and only URLs import that. Nothing is
imported here: settings need `reach` alone, and `--help` must be quick.

    url, reach         which URLs there are; how they are reached
    store, failures    what is asked of file systems, and what goes wrong
    object             a file of a known identity
    blocks             ranges of blocks
    entry, cache       its pages on the local disk, and all of them within a bound
    pool, paging       fetching what is missing
    file               windows
    opening, finding   paths and URLs to files
"""
