"""Galleries in a vector store: Qdrant, Milvus, PostgreSQL with pgvector, or LanceDB.

    place = Place.parse("qdrant", "http://localhost:6333/photos")
    collection, warning = fill_collection(place, identity_of(session))
    with collection:
        collection.add(["a.jpg"], embeddings)
        hits, warning = collection.search(identity_of(session), queries, 10)

You need the server's client, from the extra `qdrant`, `milvus`, `pgvector` or `lance`.
"""

from gsp_deploy.retrieval.servers.collection import (
    Collection,
    fill_collection,
    open_collection,
)
from gsp_deploy.retrieval.servers.place import SERVERS, Place, place_in
from gsp_deploy.retrieval.servers.sending import Sent, image_batches, send, stored_batches
from gsp_deploy.retrieval.servers.stamp import Stamp
from gsp_deploy.retrieval.servers.store import Compacted, Trained

__all__ = [
    "SERVERS",
    "Collection",
    "Compacted",
    "Place",
    "Sent",
    "Stamp",
    "Trained",
    "fill_collection",
    "image_batches",
    "open_collection",
    "place_in",
    "send",
    "stored_batches",
]
