// How the rungs around the network say what they saw.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "parity/rungs.h"

namespace plumb {

inline Finding rung_finding(std::string stage, std::string row, std::string cause, FieldValue expected, FieldValue found) {
  Finding result;
  result.stage = std::move(stage);
  result.row = row;
  result.cause_row = std::move(row);
  result.cause = std::move(cause);
  result.expected = std::move(expected);
  result.found = std::move(found);
  result.stages = {result.stage};
  return result;
}

inline RungResult unseen_rung(const char* rung, std::string why) {
  return {{rung, RungVerdict::kNotObserved, std::move(why)}, {}};
}

inline RungResult right_rung(const char* rung, std::string why) {
  return {{rung, RungVerdict::kOk, std::move(why)}, {}};
}

inline RungResult wrong_rung(const char* rung, Finding found) {
  return {{rung, RungVerdict::kFault, found.cause}, {std::move(found)}};
}

}  // namespace plumb
