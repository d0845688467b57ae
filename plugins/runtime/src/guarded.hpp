// What every public function runs in: nothing but Error leaves the library.
#pragma once

#include <exception>
#include <gsp/error.hpp>
#include <new>
#include <string>

namespace gsp {

// Run `body`. An exception of the standard library becomes an Error of this kind; memory that is
// not there becomes Error(runtime).
template <typename Body>
auto guarded(ErrorKind kind, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::runtime, "not enough memory; use smaller images or fewer at once");
  } catch (const std::exception& error) {
    throw Error(kind, error.what());
  }
}

}  // namespace gsp
