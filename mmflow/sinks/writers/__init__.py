"""Writers of one file each."""
