"""Build, store and search galleries: a faiss index and the identity of the model that filled it.

    gallery = build_gallery(session, reader, "flat")
    write_gallery(gallery, Path("gallery"))
    hits, warning = open_gallery("gallery").search(identity_of(session), queries, 10)

You need faiss, from the extra `search`.
"""

from gsp_deploy.retrieval.gallery.build import build_gallery, gallery_of
from gsp_deploy.retrieval.gallery.changing import added, compacted, without
from gsp_deploy.retrieval.gallery.index import Gallery, open_gallery, write_gallery
from gsp_deploy.retrieval.gallery.kinds import KINDS
from gsp_deploy.retrieval.gallery.stored import gallery_from
from gsp_deploy.retrieval.hits import Hit
from gsp_deploy.retrieval.identity import ModelIdentity, identity_of
from gsp_deploy.retrieval.recall import Recall

__all__ = [
    "KINDS",
    "Gallery",
    "Hit",
    "ModelIdentity",
    "Recall",
    "added",
    "build_gallery",
    "compacted",
    "gallery_from",
    "gallery_of",
    "identity_of",
    "open_gallery",
    "without",
    "write_gallery",
]
