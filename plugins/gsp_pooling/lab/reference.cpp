#include "reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gsp_deploy::lab {
namespace {

constexpr int kBisections = 200;
constexpr double kGemFloor = 1e-6;

// -gamma |p_j - f_i / max(1, |f_i|)| as (M, N), of the embeddings (D, N) of one image.
std::vector<double> scores_of(const PoolingParams& p, const double* embeddings,
                              const std::vector<double>& prototypes) {
  const int N = p.locations, D = p.embedding_dim, M = p.num_prototypes;
  std::vector<double> scores(static_cast<size_t>(M) * N);
  for (int i = 0; i < N; ++i) {
    double square = 0;
    for (int d = 0; d < D; ++d) {
      square += embeddings[d * N + i] * embeddings[d * N + i];
    }
    const double norm = std::max(1.0, std::sqrt(square));
    for (int j = 0; j < M; ++j) {
      double distance = 0;
      for (int d = 0; d < D; ++d) {
        const double difference = prototypes[j * D + d] - embeddings[d * N + i] / norm;
        distance += difference * difference;
      }
      scores[j * N + i] = -p.entropy_weight * std::sqrt(distance);
    }
  }
  return scores;
}

std::vector<double> log_mass_of(const std::vector<double>& scores, int N) {
  std::vector<double> log_mass(N);
  for (int i = 0; i < N; ++i) {
    double peak = -std::numeric_limits<double>::infinity();
    for (size_t at = i; at < scores.size(); at += N) {
      peak = std::max(peak, scores[at]);
    }
    double sum = 0;
    for (size_t at = i; at < scores.size(); at += N) {
      sum += std::exp(scores[at] - peak);
    }
    log_mass[i] = peak + std::log(sum);
  }
  return log_mass;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

std::vector<double> weights_of(const std::vector<double>& log_mass, double ratio) {
  std::vector<double> weights(log_mass.size(), 1.0);
  if (ratio == 1) {
    return weights;
  }
  const auto [least, greatest] = std::minmax_element(log_mass.begin(), log_mass.end());
  const double logit = std::log(ratio) - std::log1p(-ratio);
  double low = logit - *greatest, high = logit - *least;
  for (int step = 0; step < kBisections; ++step) {
    const double middle = 0.5 * (low + high);
    double mean = 0;
    for (const double l : log_mass) {
      mean += sigmoid(middle + l) / log_mass.size();
    }
    (mean > ratio ? high : low) = middle;
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = sigmoid(0.5 * (low + high) + log_mass[i]) / ratio;
  }
  return weights;
}

double pool_row(const PoolingParams& p, const double* row, const std::vector<double>& weights) {
  const int N = p.locations;
  double sum = 0, peak = -std::numeric_limits<double>::infinity();
  for (int i = 0; i < N; ++i) {
    const double value = row[i] * weights[i];
    peak = std::max(peak, value);
    sum += p.pooling == Pooling::kGem ? std::pow(std::max(value, kGemFloor), p.power) : value;
  }
  switch (p.pooling) {
    case Pooling::kGap:
      return sum / N;
    case Pooling::kGmp:
      return peak;
    default:
      return std::pow(sum / N, 1.0 / p.power);
  }
}

void append_attributes(const PoolingParams& p, const std::vector<double>& scores,
                       const std::vector<double>& log_mass, const std::vector<double>& weights,
                       std::vector<double>& to) {
  const int N = p.locations;
  for (int j = 0; j < p.num_prototypes; ++j) {
    double share = 0, total = 0;
    for (int i = 0; i < N; ++i) {
      share += weights[i] * std::exp(scores[j * N + i] - log_mass[i]);
      total += weights[i];
    }
    to.push_back(share / total);
  }
}

void normalise(double* row, int count) {
  double square = 0;
  for (int c = 0; c < count; ++c) {
    square += row[c] * row[c];
  }
  for (int c = 0; c < count; ++c) {
    row[c] /= std::max(1e-12, std::sqrt(square));
  }
}

}  // namespace

Outputs pool_on_cpu(const PoolingParams& p, const Inputs& inputs) {
  const bool gap = p.pooling == Pooling::kGap;
  const size_t N = p.locations, channels = gap ? p.embedding_dim : p.channels;
  const std::vector<double>& maps = gap ? inputs.embeddings : inputs.features;
  Outputs out;
  for (int image = 0; image < p.batch; ++image) {
    const double* embeddings = inputs.embeddings.data() + image * p.embedding_dim * N;
    const std::vector<double> scores = scores_of(p, embeddings, inputs.prototypes);
    const std::vector<double> log_mass = log_mass_of(scores, p.locations);
    const std::vector<double> weights = weights_of(log_mass, p.transport_ratio);
    for (size_t c = 0; c < channels; ++c) {
      out.pooled.push_back(pool_row(p, maps.data() + (image * channels + c) * N, weights));
    }
    if (p.normalize) {
      normalise(out.pooled.data() + image * channels, static_cast<int>(channels));
    }
    out.weights.insert(out.weights.end(), weights.begin(), weights.end());
    append_attributes(p, scores, log_mass, weights, out.attributes);
  }
  return out;
}

}  // namespace gsp_deploy::lab
