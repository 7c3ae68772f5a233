// DeepSeek-V4 against transformers: logits and greedy tokens of the checkpoint of tests/data, any
// split of the tokens, the three ways of naming its tensors, both forms of its configuration.
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "golden.h"
#include "io/io_test_support.h"
#include "models/support/registry.h"

namespace plumb {
namespace {

using Json = nlohmann::json;

constexpr double kTolerance = 2e-5;

std::filesystem::path folder() {
  return golden::data_folder() / "checkpoints/deepseek_v4";
}

class DeepseekV4 : public testing::Test {
 protected:
  void SetUp() override {
    auto model = Model::load(folder(), {});
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_TRUE(model.value().warnings.empty()) << model.value().warnings[0];
    model_ = std::make_unique<Model>(std::move(model).value());
    const auto source = open_safetensors(folder() / "golden/golden.safetensors");
    ASSERT_TRUE(source.ok()) << source.error().message;
    golden_ = source.value();
  }

  std::unique_ptr<Model> model_;
  std::shared_ptr<const TensorSource> golden_;
};

TEST_F(DeepseekV4, LogitsAndGreedyTokens) {
  for (const std::string prompt : {"capital", "sum", "one", "chat", "unicode", "long"}) {
    auto ids = golden::ids(*golden_, prompt + "/ids");
    const auto greedy = golden::ids(*golden_, prompt + "/greedy_f32");
    const Tensor expected = golden::tensor(*golden_, prompt + "/logits_f32");
    const auto count = static_cast<std::int64_t>(ids.size());
    ids.insert(ids.end(), greedy.begin(), greedy.end());
    ASSERT_EQ(greedy.size(), 64U);
    // One prefill, then each of the golden's tokens in a forward pass of its own.
    Tensor logits = golden::run(model_->network, ids, {.one_by_one = greedy.size()});
    for (std::size_t step = 0; step < greedy.size(); ++step) {
      const auto row = logits.row(count - 1 + static_cast<std::int64_t>(step));
      EXPECT_EQ(std::max_element(row.begin(), row.end()) - row.begin(), greedy[step])
          << prompt << " step " << step;
    }
    logits.shape[0] = count;
    logits.data.resize(expected.data.size());
    const double distance = golden::distance(logits, expected);
    std::printf("deepseek_v4 %-8s fp32 distance %.1e\n", prompt.c_str(), distance);
    EXPECT_LE(distance, kTolerance) << prompt;
    EXPECT_EQ(golden::argmax_changes(logits, expected), 0) << prompt;
  }
}

// Blocks of 4 and 8, a window of 16 and a choice of 4 blocks all begin, end and overflow on the way.
TEST_F(DeepseekV4, DecodeGivesPrefillsBitsAtEveryPosition) {
  const auto ids = golden::ids(*golden_, "long/ids");
  for (const Precision precision : {Precision::kFp32, Precision::kHfBf16}) {
    const Tensor whole = golden::run(model_->network, ids, {.precision = precision, .threads = 1});
    const auto decoded =
        golden::run(model_->network, ids, {.precision = precision, .one_by_one = ids.size()});
    for (std::int64_t t = 0; t < whole.tokens(); ++t) {
      EXPECT_TRUE(std::ranges::equal(whole.row(t), decoded.row(t)))
          << "position " << t << ", " << to_string(precision);
    }
  }
}

TEST_F(DeepseekV4, SplitsAndThreadsKeepTheBits) {
  const auto ids = golden::ids(*golden_, "long/ids");
  const Tensor whole = golden::run(model_->network, ids, {.threads = 1});
  for (const std::int64_t chunk : {1, 3, 7, 64}) {
    for (const int threads : {1, 2}) {
      const Tensor split = golden::run(model_->network, ids, {.threads = threads, .chunk = chunk});
      EXPECT_EQ(split.data, whole.data) << "chunk " << chunk << ", threads " << threads;
    }
  }
  for (const std::size_t tail : {1, 5, 70, 133})
    EXPECT_EQ(golden::run(model_->network, ids, {.one_by_one = tail}).data, whole.data) << tail;
}

TEST_F(DeepseekV4, NoTwoPositionsAgree) {
  const auto ids = golden::ids(*golden_, "long/ids");
  const Tensor logits = golden::run(model_->network, ids, {});
  for (std::int64_t t = 1; t < logits.tokens(); ++t)
    EXPECT_FALSE(std::ranges::equal(logits.row(t), logits.row(t - 1))) << t;
}

// The file of the fixture under other names, and its configuration in another form.
class Renamed {
 public:
  Renamed() {
    const auto bytes = read_text_file(folder() / "model.safetensors", 1 << 26);
    EXPECT_TRUE(bytes.ok());
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.value().data(), sizeof(length));
    header_ = Json::parse(bytes.value().substr(8, length));
    header_.erase("__metadata__");
    data_ = bytes.value().substr(8 + length);
  }

  void rename(std::string_view from, std::string_view to) {
    Json renamed = Json::object();
    for (const auto& [name, entry] : header_.items()) {
      std::string changed = name;
      if (const auto place = changed.find(from); place != std::string::npos)
        changed.replace(place, from.size(), to);
      renamed[changed] = entry;
    }
    header_ = std::move(renamed);
  }

  // The matrices of a layer's experts as one tensor: of each expert, those of `parts`, in their order.
  void fuse(int layer, const std::vector<std::string>& parts, const std::string& to) {
    std::string fused;
    Json shape = {0, 0, 0};
    for (int e = 0; e < 8; ++e) {
      for (const std::string& part : parts) {
        const std::string name = "model.layers." + std::to_string(layer) + ".ffn.experts." +
                                 std::to_string(e) + "." + part + ".weight";
        const Json entry = header_.at(name);
        fused += bytes_of(entry);
        shape = {8, parts.size() * entry["shape"][0].get<std::size_t>(), entry["shape"][1]};
        header_.erase(name);
      }
    }
    const std::string name = "model.layers." + std::to_string(layer) + ".mlp.experts." + to;
    header_[name] = {{"dtype", "BF16"},
                     {"shape", shape},
                     {"data_offsets", {data_.size(), data_.size() + fused.size()}}};
    data_ += fused;
  }

  // Written anew, so that the file has no holes.
  std::string bytes() const {
    Json header = Json::object();
    std::string data;
    for (const auto& [name, entry] : header_.items()) {
      const std::string part = bytes_of(entry);
      header[name] = entry;
      header[name]["data_offsets"] = {data.size(), data.size() + part.size()};
      data += part;
    }
    return test::safetensors_bytes(header.dump(), data);
  }

  // The first element of the table of hashed layers.
  void set_first_id(std::int64_t id) {
    for (const auto& [name, entry] : header_.items()) {
      if (name.find("tid2eid") == std::string::npos) continue;
      std::memcpy(data_.data() + entry["data_offsets"][0].get<std::size_t>(), &id, sizeof(id));
    }
  }

 private:
  std::string bytes_of(const Json& entry) const {
    const auto begin = entry["data_offsets"][0].get<std::size_t>();
    return data_.substr(begin, entry["data_offsets"][1].get<std::size_t>() - begin);
  }

  Json header_;
  std::string data_;
};

void give_modules_names(Renamed& file) {
  for (int layer = 0; layer < 5; ++layer) {
    file.fuse(layer, {"w1", "w3"}, "gate_up_proj");
    file.fuse(layer, {"w2"}, "down_proj");
  }
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"head.weight", "lm_head.weight"},
      {".attn.compressor.norm", ".attn.compressor.kv_norm"},
      {".attn.indexer.compressor.norm", ".attn.indexer.compressor.kv_norm"},
      {".attn.norm", ".attn.kv_norm"},
      {".attn.q_norm", ".attn.q_a_norm"},
      {".attn.indexer.compressor.", ".attn.compressor.indexer."},
      {".attn.indexer.wq_b", ".attn.compressor.indexer.q_b_proj"},
      {".attn.indexer.weights_proj", ".attn.compressor.indexer.scorer.weights_proj"},
      {".wq_a.", ".q_a_proj."},
      {".wq_b.", ".q_b_proj."},
      {".wkv.", ".kv_proj."},
      {".wgate.", ".gate_proj."},
      {".wo_a.", ".o_a_proj."},
      {".wo_b.", ".o_b_proj."},
      {".ape", ".position_bias"},
      {".attn_sink", ".sinks"},
      {".gate.bias", ".gate.e_score_correction_bias"},
      {".shared_experts.w1.", ".shared_experts.gate_proj."},
      {".shared_experts.w2.", ".shared_experts.down_proj."},
      {".shared_experts.w3.", ".shared_experts.up_proj."},
      {".attn_norm.", ".input_layernorm."},
      {".ffn_norm.", ".post_attention_layernorm."},
      {".hc_attn_", ".attn_hc."},
      {".hc_ffn_", ".ffn_hc."},
      {".attn.", ".self_attn."},
      {".ffn.", ".mlp."},
  };
  for (const auto& [from, to] : kNames)
    file.rename(from, to);
}

void give_the_releases_names(Renamed& file) {
  file.rename("model.embed_tokens", "embed");
  file.rename("model.hc_head.hc_", "hc_head_");
  file.rename(".attn.norm.", ".attn.kv_norm.");
  file.rename("model.", "");
}

// As the release writes it: ratios, counts and rope_scaling for the names of layers and two objects.
Json older_form(Json config) {
  for (const char* key : {"layer_types", "mlp_layer_types", "compress_rates", "rope_parameters",
                          "partial_rotary_factor"})
    config.erase(key);
  config["compress_ratios"] = {0, 8, 4, 8, 4, 0};
  config["num_hash_layers"] = 1;
  config["rope_scaling"] = {{"type", "yarn"},
                            {"factor", 16},
                            {"beta_fast", 32},
                            {"beta_slow", 1},
                            {"original_max_position_embeddings", 64}};
  config["torch_dtype"] = config["dtype"];
  config.erase("dtype");
  return config;
}

class DeepseekV4Forms : public DeepseekV4 {
 protected:
  Result<Model> load(const Renamed& file, bool older) {
    const auto text = read_text_file(folder() / "config.json", 1 << 20);
    EXPECT_TRUE(text.ok());
    const Json config = Json::parse(text.value());
    files_.write("config.json", (older ? older_form(config) : config).dump());
    files_.write("model.safetensors", file.bytes());
    return Model::load(files_.path(), {});
  }

  void expect_same_bits(const Renamed& file, bool older) {
    const auto model = load(file, older);
    ASSERT_TRUE(model.ok()) << model.error().message;
    for (const std::string& warning : model.value().warnings)
      ADD_FAILURE() << warning;
    const auto ids = golden::ids(*golden_, "unicode/ids");
    EXPECT_EQ(golden::run(model.value().network, ids, {}).data,
              golden::run(model_->network, ids, {}).data);
  }

  test::TemporaryFolder files_;
};

TEST_F(DeepseekV4Forms, TheReleasesNamesAndConfiguration) {
  Renamed file;
  give_the_releases_names(file);
  expect_same_bits(file, true);
}

TEST_F(DeepseekV4Forms, TheModulesNames) {
  Renamed file;
  give_modules_names(file);
  expect_same_bits(file, false);
}

TEST_F(DeepseekV4Forms, AnExpertThatIsNotThereIsRefused) {
  for (const std::int64_t id : {std::int64_t{8}, std::int64_t{-1}, std::int64_t{1} << 40}) {
    Renamed file;
    file.set_first_id(id);
    const auto model = load(file, false);
    ASSERT_FALSE(model.ok()) << id;
    EXPECT_NE(model.error().message.find("tid2eid"), std::string::npos) << model.error().message;
    EXPECT_NE(model.error().message.find(std::to_string(id)), std::string::npos)
        << model.error().message;
  }
}

TEST(DeepseekV4Configurations, ImpossibleOnesAreRefused) {
  const std::pair<const char*, Json> kWrong[] = {
      {"hc_mult", 0},
      {"hc_mult", 1 << 20},
      {"hc_sinkhorn_iters", 0},
      {"o_groups", 3},
      {"o_groups", 0},
      {"index_topk", 0},
      {"sliding_window", 0},
      {"index_head_dim", 4},
      {"scoring_func", "softplus"},
      {"mlp_bias", true},
      {"num_key_value_heads", 2},
      {"n_shared_experts", 2},
      {"num_experts_per_tok", 9},
      {"norm_topk_prob", false},
      {"compress_rates", {{"heavily_compressed_attention", 0}}},
      {"layer_types", {"a", "a", "a", "a", "a"}}};
  const auto text = read_text_file(folder() / "config.json", 1 << 20);
  ASSERT_TRUE(text.ok());
  for (const auto& [key, value] : kWrong) {
    Json json = Json::parse(text.value());
    json[key] = value;
    auto config = Config::parse(json.dump(), "config.json");
    ASSERT_TRUE(config.ok()) << config.error().message;
    const Architecture* architecture = find_architecture("deepseek_v4");
    ASSERT_TRUE(config.value().apply_defaults(architecture->defaults).ok());
    EXPECT_FALSE(architecture->record(config.value()).ok()) << key;
  }
}

// The official program's narrow formats: off unless asked for, and then they count.
TEST(DeepseekV4Configurations, NarrowFormatsAreAFlag) {
  const auto source = open_safetensors(folder() / "golden/golden.safetensors");
  ASSERT_TRUE(source.ok());
  const auto ids = golden::ids(*source.value(), "unicode/ids");
  const auto text = read_text_file(folder() / "config.json", 1 << 20);
  ASSERT_TRUE(text.ok());
  std::vector<Tensor> results;
  for (const char* flag : {"", "simulate_fp8_cache", "simulate_fp4_index"}) {
    test::TemporaryFolder files;
    Json json = Json::parse(text.value());
    if (*flag != '\0') json[flag] = true;
    const auto path = files.write("config.json", json.dump());
    const auto model = Model::load(folder(), {.config_file = path});
    ASSERT_TRUE(model.ok()) << model.error().message;
    results.push_back(golden::run(model.value().network, ids, {}));
    EXPECT_EQ(golden::run(model.value().network, ids, {.one_by_one = 64}).data,
              results.back().data);
    if (*flag == '\0') continue;
    const double distance = golden::distance(results.back(), results[0]);
    std::printf("%-20s %.1e\n", flag, distance);
    EXPECT_GT(distance, 1e-3) << flag;
    EXPECT_LT(distance, 0.5) << flag;
  }
}

}  // namespace
}  // namespace plumb
