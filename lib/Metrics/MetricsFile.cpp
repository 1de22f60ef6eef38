//===- MetricsFile.cpp - writing metrics.json -----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The file's layout (docs/metrics.md, docs/metrics.schema.json), one tensor or
// product a line. It is large, so formats and columns are listed once and
// referred to by index, and numbers are as short as their precision asks for.
// What has no value is null.
//
//===----------------------------------------------------------------------===//

#include "Failure.h"
#include "ProfileData.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <numeric>
#include <unistd.h>

namespace mpt::metrics {

namespace {

constexpr int kVersion = 2;
constexpr int kDigits = 7;      // of values
constexpr int kShareDigits = 4; // of shares and spreads
constexpr int kDeviationDigits = 3;

/// `value` with so many digits: "0.25", "5.1e-4", "null".
std::string shortNumber(double value, int digits) {
  if (!std::isfinite(value))
    return "null";
  char text[40];
  std::snprintf(text, sizeof text, "%.*e", digits - 1, value);
  char *e = std::strchr(text, 'e');
  int exponent = std::atoi(e + 1);
  if (exponent < -3 || exponent >= digits) {
    std::string mantissa(text, e);
    if (mantissa.find('.') != std::string::npos) {
      mantissa.erase(mantissa.find_last_not_of('0') + 1);
      if (mantissa.back() == '.')
        mantissa.pop_back();
    }
    return mantissa + "e" + std::to_string(exponent);
  }
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

/// The number of `digits` digits next to `value`, below or above.
double outward(double value, int digits, bool up) {
  if (!std::isfinite(value) || value == 0)
    return value;
  double scale =
      std::pow(10.0, digits - 1 - std::floor(std::log10(std::fabs(value))));
  double scaled = value * scale;
  // What is an integer but for rounding stays.
  double nearest = std::nearbyint(scaled);
  if (std::fabs(scaled - nearest) > 1e-9 * std::fabs(scaled))
    nearest = up ? std::ceil(scaled) : std::floor(scaled);
  return nearest / scale;
}

/// JSON text that is appended to; commas come by themselves.
class Text {
public:
  std::string out;

  Text &key(const char *name) {
    comma();
    out.append(1, '"').append(name).append("\":");
    fresh = true;
    return *this;
  }
  void string(const std::string &value) {
    comma();
    out += nlohmann::json(value).dump(-1, ' ', false,
                                      nlohmann::json::error_handler_t::replace);
  }
  void integer(int64_t value) {
    comma();
    out += std::to_string(value);
  }
  void boolean(bool value) {
    comma();
    out += value ? "true" : "false";
  }
  void number(double value, int digits = kDigits) {
    comma();
    out += shortNumber(value, digits);
  }
  template <typename Body> void object(const Body &body) {
    open('{', '}', body);
  }
  template <typename Body> void array(const Body &body) {
    open('[', ']', body);
  }
  void line() { out += '\n'; }

private:
  void comma() {
    if (!fresh)
      out += ',';
    fresh = false;
  }
  template <typename Body> void open(char begin, char end, const Body &body) {
    comma();
    out += begin;
    fresh = true;
    body();
    out += end;
    fresh = false;
  }
  bool fresh = true;
};

double meanOf(const std::vector<double> &values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         double(values.size());
}

/// The index of an entry in a table that grows as it is asked.
template <typename T> class Table {
public:
  size_t operator()(const T &entry) {
    auto it = std::find(entries.begin(), entries.end(), entry);
    if (it == entries.end())
      it = entries.insert(it, entry);
    return static_cast<size_t>(it - entries.begin());
  }
  const std::vector<T> &all() const { return entries; }

private:
  std::vector<T> entries;
};

/// A format as an operand of one side has it: vectors are rows or columns.
struct SidedFormat {
  OperandFormat format;
  bool isLhs;
  bool operator==(const SidedFormat &o) const {
    return format == o.format &&
           (isLhs == o.isLhs || format.scale != Granularity::PerVector);
  }
};

const char *scaleName(const SidedFormat &f) {
  switch (f.format.scale) {
  case Granularity::None:
    return "none";
  case Granularity::PerTensor:
    return "per_tensor";
  case Granularity::PerVector:
    return f.isLhs ? "per_row" : "per_column";
  case Granularity::Block128:
    return "block128";
  case Granularity::Mx:
    return "mx";
  }
  return "";
}

const char *recipeName(Recipe recipe) {
  switch (recipe) {
  case Recipe::None:
    return "none";
  case Recipe::Current:
    return "current";
  case Recipe::Delayed:
    return "delayed";
  case Recipe::Fixed:
    return "fixed";
  }
  return "";
}

/// A metric in the rows of a role; columns with one value per batch, in the
/// order of the file. `hasSpread`: [mean, std, low, high], else the mean alone.
struct ColumnKind {
  Column column;
  const char *name;
  bool hasSpread;
};
constexpr ColumnKind kColumns[] = {{BeMedian, "be_median", true},
                                   {BeP99, "be_p99", true},
                                   {BeMax, "be_max", true},
                                   {RelVar, "rel_var", true},
                                   {Cosine, "cosine", true},
                                   {FlushedLhs, "flushed_lhs", false},
                                   {FlushedRhs, "flushed_rhs", false},
                                   {SaturatedLhs, "saturated_lhs", false},
                                   {SaturatedRhs, "saturated_rhs", false},
                                   {LossMse, "loss_mse", true},
                                   {LossShift, "loss_shift", true}};

bool hasColumn(Role role, Column column, const Sampling &sampling) {
  if (column == LossMse)
    return role == Role::Fprop;
  if (column == LossShift)
    return role == Role::Fprop && sampling.isExact();
  return true;
}

void writeFormat(Text &t, const SidedFormat &sided) {
  const OperandFormat &f = sided.format;
  t.object([&] {
    t.key("storage").string(storageName(f.storage));
    t.key("scale").string(scaleName(sided));
    t.key("recipe").string(recipeName(f.recipe));
    t.key("rounding")
        .string(f.rounding == Rounding::Stochastic ? "stochastic" : "nearest");
    if (f.recipe == Recipe::Delayed)
      t.key("history").integer(f.history);
    if (f.margin != 0)
      t.key("margin").integer(f.margin);
    if (f.recipe == Recipe::Fixed)
      t.key("value").number(f.fixedScale, 9);
  });
}

void writeSummary(Text &t, const Summary &s) {
  if (s.std == 0 || !std::isfinite(s.mean))
    return t.number(s.mean);
  // As many digits as the interval's width is worth.
  double size = std::max(std::fabs(s.low), std::fabs(s.high));
  double needed = std::ceil(std::log10(size / (s.high - s.low))) + 2;
  int digits = needed < kDigits ? std::max(int(needed), 3) : kDigits;
  t.array([&] {
    t.number(s.mean);
    t.number(s.std, kDeviationDigits);
    t.number(outward(s.low, digits, false), digits);
    t.number(outward(s.high, digits, true), digits);
  });
}

void writeExponents(Text &t, const TensorPoint &s) {
  size_t first = 0, last = s.exponents.size();
  while (first < last && s.exponents[first] == 0)
    ++first;
  while (last > first && s.exponents[last - 1] == 0)
    --last;
  t.key("exponents").array([&] {
    t.integer(first == last ? 0 : int64_t(first) - 127);
    t.array([&] {
      for (size_t e = first; e < last; ++e)
        t.integer(static_cast<int64_t>(s.exponents[e]));
    });
  });
}

/// Smallest of the smallest, mean of the medians, largest of the largest.
void writeSpread(Text &t, const char *key, const std::vector<Spread> &batches) {
  double low = batches.front().min, median = 0, high = 0;
  for (const Spread &s : batches) {
    low = std::min(low, double(s.min));
    median += s.median / double(batches.size());
    high = std::max(high, double(s.max));
  }
  t.key(key).array([&] {
    t.number(low, kShareDigits);
    t.number(median, kShareDigits);
    t.number(high, kShareDigits);
  });
}

void writeTensorPoint(Text &t, const TensorPoint &s) {
  double mean = meanOf(s.mean), variance = meanOf(s.variance);
  t.object([&] {
    writeSummary(t.key("amax"), summarize(s.amax));
    t.key("min_nonzero")
        .number(s.minNonzero != 0 ? s.minNonzero : std::nan(""));
    t.key("mean").number(mean);
    t.key("std").number(std::sqrt(variance));
    t.key("kurtosis").number(summarize(s.kurtosis).mean);
    writeExponents(t, s);
    t.key("zeros").number(double(s.zeros) / double(s.elements));
    t.key("nonfinite").integer(static_cast<int64_t>(s.nonfinite));
    writeSpread(t, "rows", s.rows);
    writeSpread(t, "columns", s.columns);
  });
}

/// What foretells most of a role: the point where it is largest is the worst.
double badness(const ProductModel &product, const ProductPoint &point) {
  double worst = -1;
  for (const CandidatePoint &candidate : point.candidates) {
    double value = candidate.persistent.mean;
    if (product.role == Role::Fprop)
      value = summarize(candidate.values[LossMse]).mean;
    if (product.role == Role::Dgrad)
      value = summarize(candidate.values[RelVar]).mean * point.signal;
    if (std::isfinite(value))
      worst = std::max(worst, value);
  }
  return worst;
}

/// Index of the worst point; by the median backward error where a point lacks
/// the metric that counts.
size_t worstPoint(const ProductModel &product, size_t index,
                  const ProfileData &data) {
  std::vector<double> values, medians;
  for (const PointData &point : data.points) {
    values.push_back(badness(product, point.products[index]));
    double median = 0;
    for (const CandidatePoint &c : point.products[index].candidates)
      median = std::max(median, summarize(c.values[BeMedian]).mean);
    medians.push_back(median);
  }
  if (*std::min_element(values.begin(), values.end()) < 0)
    values = medians;
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) -
                             values.begin());
}

/// The document, part by part.
class Writer {
public:
  Writer(const StepModel &model, const ProfileData &data)
      : model(model), data(data) {
    for (const std::vector<Candidate> &list : data.candidates)
      for (const Candidate &candidate : list)
        candidateIndex(candidate);
    for (const ProbeModel &probe : data.probes) {
      formats({probe.formats.lhs, true});
      formats({probe.formats.rhs, true});
    }
    // Only tensors that were seen: an operand of a product that never ran at a
    // point would have no statistics.
    for (size_t i = 0; i < model.tensors().size(); ++i) {
      bool seen = true;
      for (const PointData &point : data.points)
        seen &= !point.tensors[i].amax.empty();
      tensorIndex.push_back(seen ? int64_t(tensors.size()) : -1);
      if (seen)
        tensors.push_back(i);
    }
  }

  std::string write(bool complete);

private:
  size_t candidateIndex(const Candidate &candidate) {
    return candidates(
        {formats({candidate.lhs, true}), formats({candidate.rhs, false})});
  }
  void writeHead(bool complete);
  void writeColumns();
  void writeProduct(size_t index);
  void writeProbe(size_t index);

  const StepModel &model;
  const ProfileData &data;
  Table<SidedFormat> formats;
  Table<std::pair<size_t, size_t>> candidates;
  std::vector<size_t> tensors;      // of the model, in the file's order
  std::vector<int64_t> tensorIndex; // in the file
  Text t;
};

void Writer::writeHead(bool complete) {
  size_t batches = 0;
  for (const PointData &point : data.points)
    batches = std::max(batches, point.batches);
  t.key("format").string("mpt-metrics");
  t.key("version").integer(kVersion);
  t.key("graph_hash").string(data.graphHash);
  t.key("engine").string(data.engine);
  t.key("sampling").object([&] {
    t.key("rows").integer(data.sampling.rows);
    t.key("columns").integer(data.sampling.columns);
    t.key("seed").integer(static_cast<int64_t>(data.sampling.seed));
    t.key("sketch").integer(static_cast<int64_t>(data.sketch));
  });
  t.key("complete").boolean(complete);
  t.key("batches").integer(static_cast<int64_t>(batches));
  t.key("points").array([&] {
    for (const PointData &point : data.points)
      t.object([&] {
        t.key("step").integer(point.step);
        t.key("batches").integer(static_cast<int64_t>(point.batches));
        writeSummary(t.key("loss"), summarize(point.loss));
        t.key("gradient_signal").number(point.gradientSignal);
        t.key("gradient_noise").number(point.gradientNoise);
      });
  });
  t.line();
}

void Writer::writeColumns() {
  t.key("columns").object([&] {
    for (Role role : {Role::Fprop, Role::Dgrad, Role::Wgrad})
      t.key(roleName(role)).array([&] {
        for (const ColumnKind &kind : kColumns)
          if (hasColumn(role, kind.column, data.sampling))
            t.string(kind.name);
        if (role == Role::Wgrad)
          t.string("persistent");
      });
  });
  t.line();
}

void Writer::writeProduct(size_t index) {
  const ProductModel &p = model.products()[index];
  t.object([&] {
    t.key("name").string(p.name);
    t.key("role").string(roleName(p.role));
    t.key("m").integer(p.m);
    t.key("n").integer(p.n);
    t.key("k").integer(p.k);
    t.key("batch").integer(p.batch[0] * p.batch[1]);
    t.key("lhs").integer(tensorIndex[p.lhs]);
    t.key("rhs").integer(tensorIndex[p.rhs]);
    if (p.gradient)
      t.key("gradient").integer(tensorIndex[*p.gradient]);
    t.key("candidates").array([&] {
      for (const Candidate &candidate : data.candidates[index])
        t.integer(static_cast<int64_t>(candidateIndex(candidate)));
    });
    t.key("worst").integer(static_cast<int64_t>(worstPoint(p, index, data)));
    t.key("points").array([&] {
      for (const PointData &point : data.points) {
        const ProductPoint &s = point.products[index];
        t.object([&] {
          t.key("excluded").number(meanOf(s.excluded), kShareDigits);
          if (p.role != Role::Fprop)
            t.key("signal").number(s.signal);
          t.key("values").array([&] {
            for (const CandidatePoint &c : s.candidates)
              t.array([&] {
                for (const ColumnKind &kind : kColumns)
                  if (!hasColumn(p.role, kind.column, data.sampling))
                    continue;
                  else if (kind.hasSpread)
                    writeSummary(t, summarize(c.values[kind.column]));
                  else
                    t.number(meanOf(c.values[kind.column]), kShareDigits);
                if (p.role == Role::Wgrad)
                  writeSummary(t, c.persistent);
              });
          });
        });
      }
    });
  });
}

void Writer::writeProbe(size_t index) {
  const ProbeModel &probe = data.probes[index];
  t.object([&] {
    t.key("role").string(probe.role ? roleName(*probe.role) : "whole");
    t.key("layer");
    if (probe.layer)
      t.integer(*probe.layer);
    else
      t.number(std::nan(""));
    t.key("products").integer(static_cast<int64_t>(probe.products));
    t.key("candidate").string(probe.candidate);
    t.key("formats").array([&] {
      t.integer(static_cast<int64_t>(formats({probe.formats.lhs, true})));
      t.integer(static_cast<int64_t>(formats({probe.formats.rhs, true})));
    });
    t.key("points").array([&] {
      for (const PointData &point : data.points)
        t.object([&] {
          const ProbePoint &p = point.probes[index];
          writeSummary(t.key("rel_var"), p.relVar);
          writeSummary(t.key("noise_ratio"), p.noiseRatio);
          writeSummary(t.key("persistent"), p.persistent);
          writeSummary(t.key("loss_change"), p.lossChange);
        });
    });
  });
}

std::string Writer::write(bool complete) {
  auto lines = [&](const char *key, size_t count, auto body) {
    t.key(key).array([&] {
      for (size_t i = 0; i < count; ++i) {
        t.line();
        body(i);
      }
    });
    t.line();
  };
  t.object([&] {
    writeHead(complete);
    writeColumns();
    lines("formats", formats.all().size(),
          [&](size_t i) { writeFormat(t, formats.all()[i]); });
    t.key("candidates").array([&] {
      for (auto [lhs, rhs] : candidates.all())
        t.array([&, lhs = lhs, rhs = rhs] {
          t.integer(static_cast<int64_t>(lhs));
          t.integer(static_cast<int64_t>(rhs));
        });
    });
    t.line();
    lines("tensors", tensors.size(), [&](size_t i) {
      t.object([&] {
        t.key("name").string(model.tensors()[tensors[i]].name);
        t.key("points").array([&] {
          for (const PointData &point : data.points)
            writeTensorPoint(t, point.tensors[tensors[i]]);
        });
      });
    });
    lines("products", model.products().size(),
          [&](size_t i) { writeProduct(i); });
    lines("probes", data.probes.size(), [&](size_t i) { writeProbe(i); });
  });
  t.line();
  return std::move(t.out);
}

/// Writes all of `text`; removes the file if that fails.
void writeFile(const std::string &path, const std::string &text) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool ok = fd >= 0;
  for (size_t done = 0; ok && done < text.size();) {
    ssize_t written = ::write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR)
      continue;
    ok = written > 0;
    done += ok ? static_cast<size_t>(written) : 0;
  }
  int error = errno;
  if (fd >= 0 && ::close(fd) != 0 && ok) {
    ok = false;
    error = errno;
  }
  if (!ok) {
    ::unlink(path.c_str());
    rt::fail(MPT_ERROR_IO, "cannot write '", path, "': ", std::strerror(error));
  }
}

} // namespace

std::string metricsText(const StepModel &model, const ProfileData &data,
                        bool complete) {
  return Writer(model, data).write(complete);
}

void writeMetricsFile(const std::string &path, const std::string &text) {
  std::string temporary = path + "." + std::to_string(::getpid()) + ".tmp";
  writeFile(temporary, text);
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    int error = errno;
    ::unlink(temporary.c_str());
    rt::fail(MPT_ERROR_IO, "cannot write '", path, "': ", std::strerror(error));
  }
}

} // namespace mpt::metrics
