// AMX on machines that lack it: its instructions raise SIGILL there, and the handler does what Intel's manual says of each (Intel
// 64 and IA-32 Architectures Software Developer's Manual, volume 2: LDTILECFG, TILELOADD, TDPBSSD, TDPBF16PS, …). So the tests run
// the very bytes that a machine with AMX runs; what the manual forbids ends the program with a sentence.
#pragma once
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace plumb::amx_emulator {

constexpr int kTiles = 8;
constexpr int kRows = 16;
constexpr int kRowBytes = 64;

struct Tile {
  int rows = 0;
  int row_bytes = 0;
  std::uint8_t data[kRows][kRowBytes] = {};
};

// What a thread's processor would hold.
struct State {
  bool configured = false;
  Tile tiles[kTiles];
};

inline thread_local State state;
inline std::atomic<std::int64_t> instructions = 0;

// In a handler: no allocation, no streams.
[[noreturn]] inline void stop(const char* why) {
  const char* parts[] = {"AMX emulator: ", why, "\n"};
  for (const char* part : parts) {
    if (write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
  }
  _exit(70);
}

struct Instruction {
  int length;
  int prefix;  // VEX.pp: 0 none, 1 66, 2 F3, 3 F2
  int opcode;
  int mod;
  int reg;
  int rm;
  int vvvv;
  std::uint64_t address;  // of memory operands, without the stride
  std::uint64_t stride;
};

inline std::uint64_t general(const ucontext_t& context, int number) {
  constexpr std::array<int, 16> kOrder = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                          REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return static_cast<std::uint64_t>(context.uc_mcontext.gregs[kOrder[static_cast<std::size_t>(number)]]);
}

inline std::int64_t displacement(const std::uint8_t* at, int bytes) {
  std::int32_t wide = 0;
  if (bytes == 1) return static_cast<std::int8_t>(*at);
  if (bytes == 4) std::memcpy(&wide, at, 4);
  return wide;
}

// VEX of three bytes, map 0F38, W0; false where it is something else.
inline bool decode(const ucontext_t& context, Instruction& to) {
  const auto start = static_cast<std::uint64_t>(context.uc_mcontext.gregs[REG_RIP]);
  const auto* code = reinterpret_cast<const std::uint8_t*>(start);
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) return false;
  to.prefix = code[2] & 3;
  to.vvvv = 15 - ((code[2] >> 3) & 15);
  to.opcode = code[3];
  const int modrm = code[4];
  to.mod = modrm >> 6;
  to.reg = (modrm >> 3) & 7;
  to.rm = modrm & 7;
  to.length = 5;
  if (to.mod == 3) return true;
  int bytes = to.mod == 1 ? 1 : to.mod == 2 ? 4 : 0;
  const int extended_base = (code[1] & 0x20) != 0 ? 0 : 8;
  const int extended_index = (code[1] & 0x40) != 0 ? 0 : 8;
  to.stride = 0;
  if (to.rm == 4) {
    const int sib = code[5];
    to.length = 6;
    const int index = ((sib >> 3) & 7) + extended_index;
    if (index != 4) to.stride = general(context, index) << (sib >> 6);
    if ((sib & 7) == 5 && to.mod == 0) {
      bytes = 4;
      to.address = 0;
    } else {
      to.address = general(context, (sib & 7) + extended_base);
    }
  } else if (to.rm == 5 && to.mod == 0) {
    bytes = 4;
    to.address = start + 5 + 4;  // of the next instruction
  } else {
    to.address = general(context, to.rm + extended_base);
  }
  to.address += static_cast<std::uint64_t>(displacement(code + to.length, bytes));
  to.length += bytes;
  return true;
}

inline void configure(const Instruction& instruction) {
  std::uint8_t bytes[64];
  std::memcpy(bytes, reinterpret_cast<const void*>(instruction.address), sizeof(bytes));
  state = State{};
  if (bytes[0] == 0) return;
  if (bytes[0] != 1) stop("a palette that is not 1");
  if (bytes[1] != 0) stop("a start row");
  for (int i = 2; i < 16; ++i) {
    if (bytes[i] != 0) stop("reserved bytes of the configuration");
  }
  for (int t = 0; t < 16; ++t) {
    const int row_bytes = bytes[16 + 2 * t] + 256 * bytes[17 + 2 * t];
    const int rows = bytes[48 + t];
    if (row_bytes > kRowBytes || rows > kRows) stop("a tile larger than 16 rows of 64 bytes");
    if ((rows == 0) != (row_bytes == 0)) stop("a tile with rows or bytes of 0");
    if (t >= kTiles && rows != 0) stop("a tile beyond the eighth");
    if (t < kTiles) state.tiles[t] = {.rows = rows, .row_bytes = row_bytes, .data = {}};
  }
  state.configured = true;
}

inline Tile& tile(int number) {
  if (!state.configured) stop("a tile is used before they are configured");
  if (number >= kTiles || state.tiles[number].rows == 0) stop("a tile that is not configured");
  return state.tiles[number];
}

inline float bf16(const std::uint8_t* at) {
  std::uint32_t value = 0;
  std::memcpy(reinterpret_cast<std::uint8_t*>(&value) + 2, at, 2);
  float x = 0;
  std::memcpy(&x, &value, 4);
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0F, x) : x;
}

inline float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0F, x) : x;
}

// Even and odd columns on their own, then both onto what was there.
inline void add_bf16(Tile& sum, const Tile& a, const Tile& b) {
  for (int m = 0; m < sum.rows; ++m) {
    for (int n = 0; n < sum.row_bytes / 4; ++n) {
      float even = 0;
      float odd = 0;
      for (int k = 0; k < a.row_bytes / 4; ++k) {
        even = flushed(std::fma(bf16(a.data[m] + 4 * k), bf16(b.data[k] + 4 * n), even));
        odd = flushed(std::fma(bf16(a.data[m] + 4 * k + 2), bf16(b.data[k] + 4 * n + 2), odd));
      }
      float total = 0;
      std::memcpy(&total, sum.data[m] + 4 * n, 4);
      total = flushed(flushed(total) + flushed(even + odd));
      std::memcpy(sum.data[m] + 4 * n, &total, 4);
    }
  }
}

inline void add_bytes(Tile& sum, const Tile& a, const Tile& b, bool a_signed, bool b_signed) {
  const auto number = [](std::uint8_t byte, bool is_signed) { return is_signed ? static_cast<std::int8_t>(byte) : static_cast<int>(byte); };
  for (int m = 0; m < sum.rows; ++m) {
    for (int n = 0; n < sum.row_bytes / 4; ++n) {
      std::uint32_t total = 0;
      std::memcpy(&total, sum.data[m] + 4 * n, 4);
      for (int k = 0; k < a.row_bytes; ++k)
        total += static_cast<std::uint32_t>(number(a.data[m][k], a_signed) * number(b.data[k / 4][4 * n + k % 4], b_signed));
      std::memcpy(sum.data[m] + 4 * n, &total, 4);
    }
  }
}

inline void multiply(const Instruction& instruction) {
  Tile& sum = tile(instruction.reg);
  const Tile& a = tile(instruction.rm);
  const Tile& b = tile(instruction.vvvv);
  if (&sum == &a || &sum == &b || &a == &b) stop("a product of a tile with itself");
  if (sum.row_bytes % 4 != 0 || a.row_bytes % 4 != 0 || sum.rows != a.rows || a.row_bytes / 4 != b.rows || sum.row_bytes != b.row_bytes)
    stop("a product of tiles that do not fit each other");
  if (instruction.opcode == 0x5c) {
    if (instruction.prefix != 2) stop("an instruction that is not emulated");
    return add_bf16(sum, a, b);
  }
  // VEX.pp: none TDPBUUD, 66 TDPBUSD, F3 TDPBSUD, F2 TDPBSSD.
  add_bytes(sum, a, b, instruction.prefix >= 2, (instruction.prefix & 1) != 0);
}

inline void move_rows(const Instruction& instruction) {
  Tile& of = tile(instruction.reg);
  if (instruction.rm != 4 || instruction.mod == 3) stop("a tile's address without base and index");
  const bool from_memory = instruction.prefix != 2;
  if (from_memory) std::memset(of.data, 0, sizeof(of.data));
  for (int r = 0; r < of.rows; ++r) {
    auto* memory = reinterpret_cast<std::uint8_t*>(instruction.address + static_cast<std::uint64_t>(r) * instruction.stride);
    if (from_memory) {
      std::memcpy(of.data[r], memory, static_cast<std::size_t>(of.row_bytes));
    } else {
      std::memcpy(memory, of.data[r], static_cast<std::size_t>(of.row_bytes));
    }
  }
}

inline void handle(int, siginfo_t*, void* raw) {
  auto& context = *static_cast<ucontext_t*>(raw);
  Instruction instruction{};
  if (!decode(context, instruction)) stop("an illegal instruction that is not of AMX");
  switch (instruction.opcode) {
    case 0x49:
      if (instruction.mod != 3 && instruction.prefix == 0) {
        configure(instruction);
      } else if (instruction.mod == 3 && instruction.prefix == 0) {
        state = State{};  // TILERELEASE
      } else if (instruction.mod == 3 && instruction.prefix == 3) {
        Tile& cleared = tile(instruction.reg);
        std::memset(cleared.data, 0, sizeof(cleared.data));
      } else {
        stop("an instruction that is not emulated");
      }
      break;
    case 0x4b:
      move_rows(instruction);
      break;
    case 0x5c:
    case 0x5e:
      if (instruction.mod != 3) stop("a product with memory");
      multiply(instruction);
      break;
    default:
      stop("an illegal instruction that is not of AMX");
  }
  ++instructions;
  context.uc_mcontext.gregs[REG_RIP] += instruction.length;
}

// For the rest of the program.
inline void install() {
  struct sigaction action {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace plumb::amx_emulator
