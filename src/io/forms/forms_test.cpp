// What all forms share: codes without scales, and scales that nothing reads.
#include "io/forms/form_test_support.h"

namespace plumb {
namespace {

TEST(Forms, CodesWithoutScalesAreAnError) {
  test::FormFile file;
  file.add("a.weight", "U8", "[2,1]", "ab").add("b.scale_table", "U8", "[2]", "ab");
  EXPECT_EQ(file.error("a.weight", {2, 1}),
            "the tensor \"a.weight\" of U8 [2, 1] holds codes, and no scales of a known form are "
            "beside it, such as \"a.weight_scale_inv\", \"a.weight_scale\", \"a.scale\" or "
            "\"a.scales\"");
  EXPECT_EQ(file.error("b.scale_table", {2}), "");
}

TEST(Forms, ScalesOfActivationsStayUnread) {
  test::FormFile file;
  file.add("a.input_scale", "F32", "[]", "abcd").add("attn.k_scale", "F32", "[1]", "abcd");
  EXPECT_TRUE(file.map().finish().ok());
  file.add("a.weight_scale", "F32", "[]", "abcd");
  EXPECT_FALSE(file.map().finish().ok());
}

}  // namespace
}  // namespace plumb
