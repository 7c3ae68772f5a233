// What the tests of io share: files in a temporary folder, safetensors bytes from a header's text,
// data that only some checkouts have beside them.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>

namespace plumb::test {

// A folder of its own for the running test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "plumb-io-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return path_ / name;
  }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes.append(header).append(data);
}

inline std::filesystem::path data_path(std::string_view name) {
  return std::filesystem::path(PLUMB_SOURCE_DIR) / "tests" / "data" / name;
}

// True when ../shared has `name`. Where it has not, says so, and fails under CI.
inline bool has_shared(const std::filesystem::path& name) {
  if (std::filesystem::exists(std::filesystem::path(PLUMB_SHARED_DIR) / name)) return true;
  std::cerr << "NOT RUN: " << name << " is not in " << PLUMB_SHARED_DIR << '\n';
  EXPECT_EQ(std::getenv("CI"), nullptr) << name << " is missing, and CI must have it";
  return false;
}

}  // namespace plumb::test
