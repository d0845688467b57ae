// A strict reader of JSON (RFC 8259) for manifests: no comments, no trailing commas, no duplicate
// keys, depth and size limited. Anything else is an Error(bundle) that says where.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace gsp {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json, std::less<>>;

  // `source` is what errors call the text.
  static Json parse(std::string_view text, std::string_view source);

  // Each throws Error(bundle), naming the value's place, when it is not of that type.
  bool boolean() const;
  double number() const;
  long long integer() const;
  const std::string& string() const;
  const Array& array() const;
  const Json& at(std::string_view key) const;    // a member that must be there
  const Json* find(std::string_view key) const;  // nullptr where there is none, or it is null

 private:
  friend class JsonReader;
  [[noreturn]] void fail(const char* expected) const;

  std::variant<std::nullptr_t, bool, double, std::string, Array, Object> value_{nullptr};
  std::string place_;  // such as bundle.json: artifacts[0].file
};

}  // namespace gsp
