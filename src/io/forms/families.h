// The readers that the table of forms.cpp names, by the file that defines them.
#pragma once
#include "io/forms/form.h"

namespace plumb {

std::optional<Formed> fp8_form(const StoredTensor& codes, const FormFiles& files);  // fp8.cpp

std::optional<Formed> gpt_oss_mxfp4_form(const StoredTensor& codes,
                                         const FormFiles& files);  // fp4.cpp
std::optional<Formed> deepseek_mxfp4_form(const StoredTensor& codes, const FormFiles& files);
std::optional<Formed> modelopt_nvfp4_form(const StoredTensor& codes, const FormFiles& files);
std::optional<Formed> packed_fp4_form(const StoredTensor& codes, const FormFiles& files);

std::optional<Formed> int8_form(const StoredTensor& codes, const FormFiles& files);  // integers.cpp
std::optional<Formed> packed_integer_form(const StoredTensor& codes, const FormFiles& files);

}  // namespace plumb
