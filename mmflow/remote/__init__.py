"""Remote files (fsspec): paged into a sparse local file, block by block, and mapped from there.

Knows nothing of shards, records or formats.
Nothing is imported here: settings need `options` alone, and `--help` must be quick.

    options                        options of remote files
    filesystem, http, s3           requests to stores (storage.object_store)
    responses, failures            checks of answers, errors and retries
    object                         a file of a known identity
    cache/                         blocks, the entry of one file, the folder of all, the fetcher and its pool of threads
    file                           windows
    opening, listing               paths and URLs to files
"""
