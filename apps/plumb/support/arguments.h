// Arguments: a command's options, declared with the variables they fill. CLI11 reads them; numbers are decimal and checked
// here, so that an error says which option, what was given and what is allowed.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb {

class Arguments {
 public:
  Arguments(std::string_view command, std::string_view summary, std::string_view details);
  ~Arguments();
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  void heading(std::string_view title);  // of the options that follow, in the help

  void positional(const std::string& name, std::optional<std::string>& target,
                  const std::string& help);
  void required(const std::string& name, std::string& target, const std::string& help);
  void several(const std::string& name, std::vector<std::string>& target, const std::string& help);
  void flag(const std::string& name, bool& target, const std::string& help);
  void text(const std::string& name, const std::string& what, std::optional<std::string>& target,
            const std::string& help);
  void texts(const std::string& name, const std::string& what, std::vector<std::string>& target,
             const std::string& help);
  void integer(const std::string& name, std::int64_t& target, std::int64_t lowest,
               std::int64_t highest, const std::string& help);
  void number(const std::string& name, double& target, const std::string& help);

  // Fills the targets. False when the help was asked for, and nothing else is to be done.
  Result<bool> parse(const std::vector<std::string>& arguments);
  std::string help() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plumb
