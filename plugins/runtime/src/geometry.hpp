// Which part of an image a crop sees; gsp_deploy/images/geometry.py is the same in Python.
#pragma once

#include <gsp/image.hpp>
#include <utility>

namespace gsp {

// One side of a crop: from `start`, `size` pixels of a side that is resized to `resized`. The first
// two are whole numbers, and may be beyond what an integer holds.
struct Window {
  double resized, start;
  int size;
};

// Across, and down.
std::pair<Window, Window> crop_windows(int width, int height, const Preprocessing& spec);

}  // namespace gsp
