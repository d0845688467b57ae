"""Sources of images, streamed: folders, patterns, lists, CSV, tar files, Parquet and Arrow tables.

    for piece in Sources(["photos/", "s3://bucket/shards/*.tar"], size=8192):
        for record in piece.records():
            pixels = record.pixels(spec)

Every source may be on this machine or in a store that `fsspec` reads. Nothing lists a source whole:
a folder's entries, or one row group of a table, is what memory holds.
"""

from gsp_deploy.sources.records import Columns, FileEntry, Record
from gsp_deploy.sources.slices import Slice, Sources
from gsp_deploy.sources.stores import is_remote

__all__ = ["Columns", "FileEntry", "Record", "Slice", "Sources", "is_remote"]
