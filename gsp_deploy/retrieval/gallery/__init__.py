"""Build, store and search galleries: a faiss index and the identity of the model that filled it.

    gallery = build_gallery(session, reader, "flat")
    write_gallery(gallery, Path("gallery"))
    hits, warning = open_gallery("gallery").search(identity_of(session), queries, 10)

You need faiss, from the extra `search`.
"""

from gsp_deploy.retrieval.gallery.build import KINDS, build_gallery
from gsp_deploy.retrieval.gallery.index import Gallery, Hit, open_gallery, write_gallery
from gsp_deploy.retrieval.identity import ModelIdentity, identity_of

__all__ = [
    "KINDS",
    "Gallery",
    "Hit",
    "ModelIdentity",
    "build_gallery",
    "identity_of",
    "open_gallery",
    "write_gallery",
]
