"""Show what the pooling looks at: weight and prototype maps of images, for any artifact."""

from gsp_deploy.explain.drawing import MapPicture, map_panel, map_pictures, write_map_panel
from gsp_deploy.explain.maps import PoolingMaps, pooling_maps

__all__ = [
    "MapPicture",
    "PoolingMaps",
    "map_panel",
    "map_pictures",
    "pooling_maps",
    "write_map_panel",
]
