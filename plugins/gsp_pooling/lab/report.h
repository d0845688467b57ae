// The lab's results as one JSON document: a list of rows under each of its keys.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace gsp_deploy::lab {

// One JSON object, field by field.
class Row {
 public:
  Row& add(const char* key, const char* word) { return put(key, quoted(word)); }
  Row& add(const char* key, bool value) { return put(key, value ? "true" : "false"); }
  Row& add(const char* key, int value) { return put(key, std::to_string(value)); }
  Row& add(const char* key, double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return put(key, std::isfinite(value) ? text : "null");
  }
  std::string text() const { return "{" + fields_ + "}"; }

 private:
  static std::string quoted(const std::string& word) {
    std::string text = "\"";
    for (const char c : word) {
      if (c == '"' || c == '\\') text += '\\';
      text += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
    return text + "\"";
  }
  Row& put(const char* key, const std::string& value) {
    fields_ += (fields_.empty() ? "" : ", ") + quoted(key) + ": " + value;
    return *this;
  }
  std::string fields_;
};

struct Report {
  Row device;
  std::vector<Row> correctness, timings;

  // Return whether it was written.
  bool write(const char* path) const {
    std::FILE* const file = std::fopen(path, "w");
    if (file == nullptr) return false;
    std::fprintf(file, "{\"lab\": 1, \"device\": %s", device.text().c_str());
    put(file, "correctness", correctness);
    put(file, "timings", timings);
    std::fprintf(file, "}\n");
    return std::fclose(file) == 0;
  }

 private:
  static void put(std::FILE* file, const char* key, const std::vector<Row>& rows) {
    std::fprintf(file, ",\n\"%s\": [", key);
    for (size_t at = 0; at < rows.size(); ++at) {
      std::fprintf(file, "%s\n  %s", at == 0 ? "" : ",", rows[at].text().c_str());
    }
    std::fprintf(file, "]");
  }
};

}  // namespace gsp_deploy::lab
