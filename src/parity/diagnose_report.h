// A diagnosis in words, as JSON (docs/diagnosis.md has the schema) and as a page. Names in a trace may hold anything: what goes to a
// terminal passes through printable(), what goes to a page through report_html().
#pragma once
#include <string>

#include "parity/diagnose.h"

namespace plumb {

struct DiagnoseNames {
  std::string suspect;  // as the user gave them
  std::string model;
  std::string reference;  // "" for none
};

std::string diagnose_text(const Diagnosis& diagnosis);
std::string diagnose_json(const Diagnosis& diagnosis);
std::string diagnose_html(const Diagnosis& diagnosis, const DiagnoseNames& names);

}  // namespace plumb
