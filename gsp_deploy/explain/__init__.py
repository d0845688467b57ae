"""What the pooling looks at: weight and prototype maps of images, from any of our artifacts."""

from gsp_deploy.explain.drawing import map_panel, write_map_panel
from gsp_deploy.explain.maps import PoolingMaps, pooling_maps

__all__ = ["PoolingMaps", "map_panel", "pooling_maps", "write_map_panel"]
