// Any bytes as a GGUF file's metadata; the tokenizer that loads from it must encode, decode and stream without harm.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "io/gguf/names.h"
#include "io/gguf/reader.h"
#include "use_tokenizer.h"

namespace {

// The bytes as a file, because GGUF files are mapped.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : descriptor_(memfd_create("gguf", 0)) {
    if (descriptor_ < 0 || write(descriptor_, data, size) != static_cast<ssize_t>(size))
      std::abort();
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile memory(data, size);
  const auto file = plumb::GgufFile::open(memory.path());
  if (!file.ok()) return 0;
  const auto metadata = plumb::tokenizer_from_gguf(*file.value());
  if (!metadata.ok()) return 0;
  const auto tokenizer = plumb::Tokenizer::from_gguf(metadata.value(), "fuzz");
  if (tokenizer.ok()) plumb::fuzz::use(tokenizer.value());
  return 0;
}
