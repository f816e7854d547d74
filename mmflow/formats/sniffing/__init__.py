"""Sniffer of CSV: options that a file's bytes suggest, how sure that is, and why.

    samples -> encodings -> hypotheses -> records -> table -> score  (the best few)
                (decode)    (delimiter,              (region,     |
                             quote, ...)              comments)   +-> header, styles -> Proposal

Invariant: a pure function of bytes. It reads no file, and the same samples give the same proposals.
"""

from mmflow.formats.sniffing.proposals import LIKELY, SURE, Proposal
from mmflow.formats.sniffing.sniffer import sniff

__all__ = ["LIKELY", "SURE", "Proposal", "sniff"]
