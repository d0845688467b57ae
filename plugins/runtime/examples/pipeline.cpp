// Decode, batch and embed in threads of their own, and tell how many images a second that makes.
//
//   pipeline BUNDLE FILE|FOLDER... [-o OUT.npy] [--decoders 2] [--workers 1] [--batch 8]
//
// Files that cannot be decoded are told and left out; their rows in OUT.npy are zero.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <gsp/npy.hpp>
#include <thread>

#include "arguments.hpp"
#include "queue.hpp"

namespace {

namespace fs = std::filesystem;

struct Decoded {
  std::size_t row;
  gsp::Image image;  // of the model's size
};

class Pipeline {
 public:
  Pipeline(const gsp::Embedder& embedder, std::vector<fs::path> files,
           const example::Arguments& given)
      : embedder_(embedder),
        files_(std::move(files)),
        batch_(std::max<std::size_t>(given.options.max_batch, 1)),
        ready_(2 * batch_),
        embeddings_(files_.size() * embedder.info().embedding_dim) {
    for (int i = 0; i < std::max(given.decoders, 1); ++i)
      decoders_.emplace_back([this] { guard(&Pipeline::decode); });
    for (int i = 0; i < std::max(given.workers, 1); ++i)
      workers_.emplace_back([this] { guard(&Pipeline::embed); });
  }

  // Wait for all of it; throws what a thread threw first.
  void finish() {
    for (auto& thread : decoders_) thread.join();
    ready_.close();
    for (auto& thread : workers_) thread.join();
    if (error_) std::rethrow_exception(error_);
  }

  const std::vector<float>& embeddings() const { return embeddings_; }
  std::size_t done() const { return done_; }

 private:
  void guard(void (Pipeline::*work)()) {
    try {
      (this->*work)();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      ready_.close();
    }
  }

  void decode() {
    for (std::size_t row; (row = next_++) < files_.size();) {
      try {
        gsp::Image image = gsp::decode_image(files_[row]);
        if (!ready_.push({row, gsp::fit_image(image, embedder_.info().preprocessing)})) return;
      } catch (const gsp::Error& error) {
        std::fprintf(stderr, "skipped: %s\n", error.what());
      }
    }
  }

  void embed() {
    const std::size_t dim = embedder_.info().embedding_dim;
    std::vector<std::size_t> rows;
    std::vector<std::uint8_t> pixels;
    std::vector<float> found;
    const auto flush = [&] {
      found.resize(rows.size() * dim);
      embedder_.embed_pixels(pixels.data(), rows.size(), found.data());
      for (std::size_t i = 0; i < rows.size(); ++i)  // no two threads have a row in common
        std::copy_n(&found[i * dim], dim, &embeddings_[rows[i] * dim]);
      done_ += rows.size();
      rows.clear();
      pixels.clear();
    };
    while (auto item = ready_.pop()) {
      rows.push_back(item->row);
      pixels.insert(pixels.end(), item->image.pixels.begin(), item->image.pixels.end());
      if (rows.size() == batch_) flush();
    }
    if (!rows.empty()) flush();
  }

  const gsp::Embedder& embedder_;
  const std::vector<fs::path> files_;
  const std::size_t batch_;
  example::Queue<Decoded> ready_;
  std::vector<float> embeddings_;
  std::atomic<std::size_t> next_{0}, done_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
  std::vector<std::thread> decoders_, workers_;
};

std::vector<fs::path> files_of(const std::vector<std::string>& names) {
  std::vector<fs::path> files;
  for (const auto& name : names) {
    if (!fs::is_directory(name)) {
      files.emplace_back(name);
      continue;
    }
    const auto start = static_cast<std::ptrdiff_t>(files.size());
    for (const auto& entry : fs::recursive_directory_iterator(name)) {
      const auto suffix = entry.path().extension();
      if (suffix == ".jpg" || suffix == ".jpeg" || suffix == ".png") files.push_back(entry.path());
    }
    std::sort(files.begin() + start, files.end());
  }
  return files;
}

void run(const example::Arguments& given) {
  const auto files = files_of({given.plain.begin() + 1, given.plain.end()});
  if (files.empty())
    throw gsp::Error(gsp::ErrorKind::usage, "expected BUNDLE FILE|FOLDER...; there are no images");
  const auto embedder = gsp::Embedder::open(given.plain[0], given.options);
  const auto start = std::chrono::steady_clock::now();
  Pipeline pipeline(embedder, files, given);
  pipeline.finish();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (!given.output.empty())
    gsp::write_npy(given.output, pipeline.embeddings().data(), files.size(),
                   embedder.info().embedding_dim);
  std::printf(
      "%zu of %zu images in %.2f s: %.1f images/s, decoding included (%s on %s, %d decoders, %d "
      "workers, batch %zu)\n",
      pipeline.done(), files.size(), took.count(),
      static_cast<double>(pipeline.done()) / took.count(), embedder.info().runtime.c_str(),
      embedder.info().device.c_str(), given.decoders, given.workers, given.options.max_batch);
}

}  // namespace

int main(int argc, char** argv) {
  return example::guarded(argc, argv, "BUNDLE FILE|FOLDER...", run);
}
