"""Streams as inputs: standard input, pipes, process substitution.

    descriptor -> PolledReader -> decompression -> Stream: blocks, cut behind line breaks -> shards of a scan
                  one thread                       bounded: a full stream does not read

Invariant: a stream is read once, in order. Its bytes are kept until the boundary check has passed them, and no longer.
"""

from mmflow.streams.opening import check_format, open_streams, stream_of
from mmflow.streams.stream import Block, Stream, StreamLimits

__all__ = ["Block", "Stream", "StreamLimits", "check_format", "open_streams", "stream_of"]
