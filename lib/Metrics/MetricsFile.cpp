//===- MetricsFile.cpp - writing metrics.json -----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The file's layout (docs/metrics.md, docs/metrics.schema.json), one product a
// line. Numbers are as short as their precision asks for; what has no value is
// null.
//
//===----------------------------------------------------------------------===//

#include "Failure.h"
#include "mpt/Metrics/Profiler.h"

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

constexpr int kVersion = 1;
constexpr int kDigits = 7;       // of values
constexpr int kSpreadDigits = 4; // of deviations and shares

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
    char text[32] = "null";
    if (std::isfinite(value))
      std::snprintf(text, sizeof text, "%.*g", digits, value);
    out += text;
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

void writeFormat(Text &t, const char *key, OperandFormat format) {
  bool scaled = format.isScaled();
  t.key(key).object([&] {
    t.key("storage").string(storageName(format.storage));
    t.key("scale").string(scaled ? "per_tensor" : "none");
    t.key("recipe").string(scaled ? "current" : "none");
    t.key("rounding").string("nearest");
  });
}

void writeSummary(Text &t, const char *key, const std::vector<double> &values) {
  Summary s = summarize(values);
  t.key(key).object([&] {
    t.key("mean").number(s.mean);
    t.key("std").number(s.std, kSpreadDigits);
    t.key("low").number(s.low);
    t.key("high").number(s.high);
  });
}

void writePair(Text &t, const char *key, const std::vector<double> (&both)[2]) {
  t.key(key).array([&] {
    t.number(meanOf(both[0]), kSpreadDigits);
    t.number(meanOf(both[1]), kSpreadDigits);
  });
}

void writeExponents(Text &t, const OperandSeries &s) {
  size_t first = 0, last = s.exponents.size();
  while (first < last && s.exponents[first] == 0)
    ++first;
  while (last > first && s.exponents[last - 1] == 0)
    --last;
  t.key("exponents").object([&] {
    t.key("low").integer(first == last ? 0 : int64_t(first) - 127);
    t.key("counts").array([&] {
      for (size_t e = first; e < last; ++e)
        t.integer(static_cast<int64_t>(s.exponents[e]));
    });
  });
}

void writeOperand(Text &t, const char *key, const OperandSeries &s) {
  t.key(key).object([&] {
    t.key("amax").object([&] {
      t.key("mean").number(meanOf(s.amax));
      t.key("max").number(*std::max_element(s.amax.begin(), s.amax.end()));
    });
    t.key("min_nonzero")
        .number(s.minNonzero != 0 ? s.minNonzero : std::nan(""));
    writeExponents(t, s);
    t.key("zeros").number(double(s.zeros) / double(s.elements));
    t.key("nonfinite").integer(static_cast<int64_t>(s.nonfinite));
  });
}

void writeCandidate(Text &t, const Candidate &c, const CandidateSeries &s) {
  t.object([&] {
    writeFormat(t, "lhs", c.lhs);
    writeFormat(t, "rhs", c.rhs);
    writeSummary(t, "be_median", s.beMedian);
    writeSummary(t, "be_p99", s.beP99);
    writeSummary(t, "be_max", s.beMax);
    writeSummary(t, "sqnr_db", s.sqnrDb);
    writeSummary(t, "cosine", s.cosine);
    writePair(t, "flushed", s.flushed);
    writePair(t, "saturated", s.saturated);
  });
}

void writeProduct(Text &t, const ProductSeries &p,
                  const std::vector<Point> &points) {
  t.object([&] {
    t.key("name").string(p.name);
    t.key("role").string(p.role);
    t.key("m").integer(p.m);
    t.key("n").integer(p.n);
    t.key("k").integer(p.k);
    t.key("batch").integer(p.batch);
    t.key("points").array([&] {
      for (size_t i = 0; i < points.size(); ++i) {
        const PointSeries &s = p.points[i];
        if (s.batches == 0)
          continue;
        t.object([&] {
          t.key("step").integer(points[i].step);
          t.key("batches").integer(static_cast<int64_t>(s.batches));
          writeOperand(t, "lhs", s.lhs);
          writeOperand(t, "rhs", s.rhs);
          t.key("excluded").number(meanOf(s.excluded));
          t.key("candidates").array([&] {
            for (size_t c = 0; c < p.candidates.size(); ++c)
              writeCandidate(t, p.candidates[c], s.candidates[c]);
          });
        });
      }
    });
  });
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

std::string Profiler::text(bool complete) const {
  Text t;
  size_t batches = 0;
  for (const Point &point : points)
    batches = std::max(batches, point.batches);
  t.object([&] {
    t.key("format").string("mpt-metrics");
    t.key("version").integer(kVersion);
    t.key("graph_hash").string(graphHash);
    t.key("engine").string(engine);
    t.key("sampling").object([&] {
      t.key("rows").integer(options.sampling.rows);
      t.key("columns").integer(options.sampling.columns);
      t.key("seed").integer(static_cast<int64_t>(options.sampling.seed));
    });
    t.key("complete").boolean(complete);
    t.key("batches").integer(static_cast<int64_t>(batches));
    t.key("at_steps").array([&] {
      for (const Point &point : points)
        if (point.batches != 0)
          t.integer(point.step);
    });
    t.line();
    t.key("products").array([&] {
      for (const auto &[launch, series] : products) {
        t.line();
        writeProduct(t, series, points);
      }
    });
  });
  t.line();
  return std::move(t.out);
}

void Profiler::write(const std::string &path, bool complete) const {
  if (points.empty() || points.front().batches == 0)
    rt::fail(MPT_ERROR_STATE, "profile: no batch has been measured");
  std::string temporary = path + "." + std::to_string(::getpid()) + ".tmp";
  writeFile(temporary, text(complete));
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    int error = errno;
    ::unlink(temporary.c_str());
    rt::fail(MPT_ERROR_IO, "cannot write '", path, "': ", std::strerror(error));
  }
}

std::string Profiler::productText() const {
  Text t;
  if (!products.empty())
    writeProduct(t, products.begin()->second, points);
  return std::move(t.out);
}

} // namespace mpt::metrics
