// The .model file of SentencePiece. Field numbers are those of sentencepiece_model.proto.
#include <fmt/format.h>

#include <utility>

#include "text/protobuf.h"
#include "text/sentencepiece.h"
#include "text/utf8.h"

namespace plumb {
namespace {

using Model = SentencePieceModel;

Error corrupt(std::string_view where, std::string_view problem) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, problem)};
}

// Calls field(f) -> bool for each field; false means a value of the wrong type.
template <class Field>
Status read_message(std::string_view bytes, std::string_view where, std::string_view name,
                    const Field& field) {
  ProtobufReader reader(bytes);
  while (const std::optional<ProtobufField> next = reader.next()) {
    if (!field(*next))
      return corrupt(where, fmt::format("field {} of {} has the wrong type", next->number, name));
  }
  if (reader.failed())
    return corrupt(where, fmt::format("{} is cut off or not a protocol buffer", name));
  return {};
}

template <class T>
bool assign(T& target, const std::optional<T>& value) {
  if (value) target = *value;
  return value.has_value();
}

Status read_piece(std::string_view bytes, std::string_view where, Model& model) {
  Model::Piece piece{"", 0, Model::Type::kNormal};
  const std::string name = fmt::format("piece {}", model.pieces.size());
  std::uint64_t type = 1;
  PLUMB_TRY_STATUS(read_message(bytes, where, name, [&](const ProtobufField& field) {
    if (field.number == 1) {
      piece.text = std::string(field.bytes);
      return field.wire == ProtobufField::Wire::kBytes;
    }
    if (field.number == 2) return assign(piece.score, field.as_float());
    if (field.number != 3) return true;
    type = field.value;
    return field.wire == ProtobufField::Wire::kVarint;
  }));
  if (type < 1 || type > 6)
    return corrupt(where, fmt::format("{} has the type {}, outside 1 to 6", name, type));
  piece.type = static_cast<Model::Type>(type);
  model.pieces.push_back(std::move(piece));
  return {};
}

struct Trainer {
  std::uint64_t kind = 1;
  bool whitespace_as_suffix = false;
  std::int64_t bos = 1;
  std::int64_t eos = 2;
};

Status read_trainer(std::string_view bytes, std::string_view where, Model& model,
                    Trainer& trainer) {
  return read_message(bytes, where, "trainer_spec", [&](const ProtobufField& field) {
    const bool is_number = field.wire == ProtobufField::Wire::kVarint;
    const auto id = static_cast<std::int32_t>(field.value);  // int32 is written as 64 bits
    switch (field.number) {
      case 3:
        trainer.kind = field.value;
        return is_number;
      case 24:
        return assign(trainer.whitespace_as_suffix, field.as_bool());
      case 35:
        return assign(model.byte_fallback, field.as_bool());
      case 41:
        trainer.bos = id;
        return is_number;
      case 42:
        trainer.eos = id;
        return is_number;
      default:
        return true;
    }
  });
}

Status read_normalizer_spec(std::string_view bytes, std::string_view where, Model& model) {
  return read_message(bytes, where, "normalizer_spec", [&](const ProtobufField& field) {
    switch (field.number) {
      case 2:
        model.charsmap = std::string(field.bytes);
        return field.wire == ProtobufField::Wire::kBytes;
      case 3:
        return assign(model.add_dummy_prefix, field.as_bool());
      case 4:
        return assign(model.remove_extra_whitespaces, field.as_bool());
      case 5:
        return assign(model.escape_whitespaces, field.as_bool());
      default:
        return true;
    }
  });
}

Status check(const Trainer& trainer, std::string_view where, Model& model) {
  if (model.pieces.empty()) return corrupt(where, "holds no pieces");
  if (trainer.kind != 1 && trainer.kind != 2) {
    return Error{
        ErrorCode::kUnsupported,
        fmt::format("{}: model type {} is neither Unigram (1) nor BPE (2)", where, trainer.kind)};
  }
  if (trainer.whitespace_as_suffix) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: treat_whitespace_as_suffix is not supported", where)};
  }
  model.kind = static_cast<Model::Kind>(trainer.kind);
  const auto count = static_cast<std::int64_t>(model.pieces.size());
  const auto id_of = [&](std::int64_t id) {
    return id >= 0 && id < count ? std::optional(static_cast<TokenId>(id)) : std::nullopt;
  };
  model.bos = id_of(trainer.bos);
  model.eos = id_of(trainer.eos);
  return {};
}

}  // namespace

Result<SentencePieceModel> read_sentencepiece(std::string_view bytes, std::string_view where) {
  Model model{Model::Kind::kUnigram, {}, false, true, true, true, "", std::nullopt, std::nullopt};
  Trainer trainer;
  ProtobufReader reader(bytes);
  while (const std::optional<ProtobufField> field = reader.next()) {
    if (field->number < 1 || field->number > 3) continue;
    if (field->wire != ProtobufField::Wire::kBytes) {
      return corrupt(where, fmt::format("field {} of the model has the wrong type", field->number));
    }
    if (field->number == 1) PLUMB_TRY_STATUS(read_piece(field->bytes, where, model));
    if (field->number == 2) PLUMB_TRY_STATUS(read_trainer(field->bytes, where, model, trainer));
    if (field->number == 3) PLUMB_TRY_STATUS(read_normalizer_spec(field->bytes, where, model));
  }
  if (reader.failed()) return corrupt(where, "cut off or not a SentencePiece model");
  PLUMB_TRY_STATUS(check(trainer, where, model));
  return model;
}

}  // namespace plumb
