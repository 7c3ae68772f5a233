// For the Python tests: loads the tokenizer of the argument (a tokenizer.json, a model's folder, a GGUF file); for each line of
// standard input, a JSON string, writes one line of JSON with its ids in three ways and the texts that they decode to.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/tokenizer_file.h"
#include "text/tokenizer.h"

int main(int argc, char** argv) {
  using plumb::StreamDecoder;
  using plumb::Tokenizer;
  if (argc != 2) return 1;
  const auto loaded = plumb::load_tokenizer(argv[1]);
  if (!loaded.ok() || loaded.value() == nullptr) {
    std::cerr << (loaded.ok() ? "no tokenizer" : loaded.error().message) << '\n';
    return 1;
  }
  const Tokenizer& tokenizer = *loaded.value();
  for (std::string line; std::getline(std::cin, line);) {
    const std::string input = nlohmann::json::parse(line);
    const auto encode = [&](bool add_special, bool parse_special) {
      return tokenizer.encode(input, {.add_special = add_special, .parse_special = parse_special})
          .value();
    };
    const std::vector<plumb::TokenId> ids = encode(false, true);
    const std::vector<plumb::TokenId> with_special = encode(true, true);
    StreamDecoder stream(tokenizer, false);
    std::string streamed;
    for (const plumb::TokenId id : ids)
      streamed += stream.push(id).value();
    streamed += stream.finish();
    std::cout << nlohmann::json{{"ids", ids},
                                {"ids_with_special", with_special},
                                {"ids_as_text", encode(false, false)},
                                {"decoded", tokenizer.decode(ids, false).value()},
                                {"decoded_skip", tokenizer.decode(with_special, true).value()},
                                {"streamed", streamed}}
                     .dump()
              << '\n';
  }
  return 0;
}
