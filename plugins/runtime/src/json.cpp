#include "json.hpp"

#include <charconv>
#include <cmath>
#include <gsp/error.hpp>

namespace gsp {
namespace {

constexpr std::size_t max_size = 1 << 20;
constexpr int max_depth = 64;
// Every value remembers its place, so a long key with many values in it would fill the memory.
constexpr std::size_t max_place = 200;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, unsigned code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | code >> 12);
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xf0 | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

}  // namespace

class JsonReader {
 public:
  JsonReader(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  Json document() {
    if (text_.size() > max_size) fail("a manifest of at most 1 MiB");
    Json value = read(std::string(source_), 0);
    skip_space();
    if (at_ != text_.size()) fail("the end");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& expected) const {
    throw Error(ErrorKind::bundle, std::string(source_) + ": not valid JSON, expected " + expected +
                                       " at byte " + std::to_string(at_));
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') ++at_;
  }

  void expect(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("'" + std::string(word) + "'");
    at_ += word.size();
  }

  bool take(char c) {
    skip_space();
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }

  // The place of a member, or the one around it where that would get too long.
  std::string within(const std::string& place, const std::string& step) const {
    const bool fits = place.size() + step.size() <= source_.size() + max_place;
    return fits ? place + step : place;
  }

  Json read(const std::string& place, int depth) {
    if (depth > max_depth) fail("less nesting");
    Json made;
    made.place_ = place;
    skip_space();
    switch (peek()) {
      case '{': made.value_ = object(place, depth); break;
      case '[': made.value_ = array(place, depth); break;
      case '"': made.value_ = string(); break;
      case 't': expect("true"), made.value_ = true; break;
      case 'f': expect("false"), made.value_ = false; break;
      case 'n': expect("null"); break;
      default: made.value_ = number();
    }
    return made;
  }

  Json::Object object(const std::string& place, int depth) {
    Json::Object members;
    ++at_;
    if (take('}')) return members;
    do {
      skip_space();
      if (peek() != '"') fail("a key");
      std::string key = string();
      if (!take(':')) fail("':'");
      Json value = read(within(place, (depth == 0 ? ": " : ".") + key), depth + 1);
      if (!members.emplace(std::move(key), std::move(value)).second) fail("each key once");
    } while (take(','));
    if (!take('}')) fail("',' or '}'");
    return members;
  }

  Json::Array array(const std::string& place, int depth) {
    Json::Array items;
    ++at_;
    if (take(']')) return items;
    do {
      items.push_back(read(within(place, "[" + std::to_string(items.size()) + "]"), depth + 1));
    } while (take(','));
    if (!take(']')) fail("',' or ']'");
    return items;
  }

  std::string string() {
    std::string out;
    for (++at_; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"') return ++at_, out;
      if (static_cast<unsigned char>(c) < 0x20) fail("no control character");
      if (c != '\\') {
        out += c;
        continue;
      }
      ++at_;
      static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
      if (const auto found = from.find(peek()); at_ < text_.size() && found != from.npos) {
        out += to[found];
      } else if (peek() == 'u') {
        append_utf8(out, escaped());
      } else {
        fail("a known escape");
      }
    }
    fail("'\"'");
  }

  unsigned hex4() {  // stands on the u, and then on the last digit
    unsigned code = 0;
    const char* start = text_.data() + at_ + 1;
    if (text_.size() - at_ < 5) fail("four hexadecimal digits");
    if (const auto [end, error] = std::from_chars(start, start + 4, code, 16);
        error != std::errc{} || end != start + 4)
      fail("four hexadecimal digits");
    at_ += 4;
    return code;
  }

  unsigned escaped() {
    const unsigned high = hex4();
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || text_.substr(at_ + 1, 2) != "\\u") fail("a surrogate pair");
    at_ += 2;
    const unsigned low = hex4();
    if (low < 0xdc00 || low > 0xdfff) fail("a surrogate pair");
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }

  double number() {
    const std::size_t start = at_;
    const auto digits = [&] {
      if (!is_digit(peek())) fail("a value");
      while (is_digit(peek())) ++at_;
    };
    if (peek() == '-') ++at_;
    peek() == '0' ? static_cast<void>(++at_) : digits();
    if (peek() == '.') ++at_, digits();
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    double value = 0;
    const auto [end, error] = std::from_chars(text_.data() + start, text_.data() + at_, value);
    if (error != std::errc{} || !std::isfinite(value)) fail("a number that a double holds");
    return value;
  }

  std::string_view text_;
  std::string_view source_;
  std::size_t at_ = 0;
};

Json Json::parse(std::string_view text, std::string_view source) {
  return JsonReader(text, source).document();
}

void Json::fail(const char* expected) const {
  throw Error(ErrorKind::bundle, place_ + ": expected " + expected + "; package the model again");
}

bool Json::boolean() const {
  if (const auto* found = std::get_if<bool>(&value_)) return *found;
  fail("true or false");
}

double Json::number() const {
  if (const auto* found = std::get_if<double>(&value_)) return *found;
  fail("a number");
}

long long Json::integer() const {
  const double value = number();
  if (value != std::floor(value) || std::abs(value) > 9e15) fail("a whole number");
  return static_cast<long long>(value);
}

const std::string& Json::string() const {
  if (const auto* found = std::get_if<std::string>(&value_)) return *found;
  fail("a string");
}

const Json::Array& Json::array() const {
  if (const auto* found = std::get_if<Array>(&value_)) return *found;
  fail("a list");
}

const Json* Json::find(std::string_view key) const {
  const auto* members = std::get_if<Object>(&value_);
  if (members == nullptr) fail("an object");
  const auto found = members->find(key);
  if (found == members->end()) return nullptr;
  return std::holds_alternative<std::nullptr_t>(found->second.value_) ? nullptr : &found->second;
}

const Json& Json::at(std::string_view key) const {
  if (const Json* found = find(key)) return *found;
  throw Error(ErrorKind::bundle,
              place_ + ": '" + std::string(key) + "' is missing; package the model again");
}

}  // namespace gsp
