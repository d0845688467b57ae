#include "sha256.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <gsp/error.hpp>
#include <vector>

namespace gsp {
namespace {

using Word = std::uint32_t;
constexpr std::size_t block_size = 64;

// First 32 bits of the fractional parts of the cube roots of the first 64 primes.
constexpr std::array<Word, 64> constants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

Word rotate(Word x, int n) { return x >> n | x << (32 - n); }

class Digest {
 public:
  void update(const std::uint8_t* block) {
    std::array<Word, 64> w;
    for (std::size_t i = 0; i < 16; ++i)
      w[i] = Word{block[4 * i]} << 24 | Word{block[4 * i + 1]} << 16 | Word{block[4 * i + 2]} << 8 |
             Word{block[4 * i + 3]};
    for (std::size_t i = 16; i < 64; ++i) {
      const Word a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
             (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
      const Word first = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) +
                         constants[i] + w[i];
      const Word second =
          (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first;
      d = c, c = b, b = a, a = first + second;
    }
    const std::array<Word, 8> mixed = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += mixed[i];
  }

  std::string hexadecimal() const {
    std::string text;
    for (const Word word : state_)
      for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    return text;
  }

 private:
  // First 32 bits of the fractional parts of the square roots of the first 8 primes.
  std::array<Word, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
};

}  // namespace

std::string sha256_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ErrorKind::bundle, file.string() + ": cannot be read");
  Digest digest;
  std::vector<std::uint8_t> buffer(std::size_t{1} << 20);
  std::uint64_t total = 0;
  std::size_t rest = 0;  // bytes of the last, unfinished block
  do {
    stream.read(reinterpret_cast<char*>(buffer.data()),
                static_cast<std::streamsize>(buffer.size()));
    const auto got = static_cast<std::size_t>(stream.gcount());
    total += got;
    rest = got % block_size;
    for (std::size_t at = 0; at + block_size <= got; at += block_size) digest.update(&buffer[at]);
    if (rest != 0)
      std::copy_n(buffer.begin() + static_cast<long>(got - rest), rest, buffer.begin());
  } while (stream);
  if (stream.bad()) throw Error(ErrorKind::bundle, file.string() + ": cannot be read to its end");

  std::array<std::uint8_t, 2 * block_size> last{};
  std::copy_n(buffer.begin(), rest, last.begin());
  last[rest] = 0x80;
  const std::size_t end = rest + 9 <= block_size ? block_size : 2 * block_size;
  for (std::size_t i = 0; i < 8; ++i)
    last[end - 1 - i] = static_cast<std::uint8_t>(total * 8 >> (8 * i));
  for (std::size_t at = 0; at < end; at += block_size) digest.update(&last[at]);
  return digest.hexadecimal();
}

}  // namespace gsp
