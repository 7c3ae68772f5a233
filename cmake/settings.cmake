# Compiler settings that hold for every target. Parity depends on IEEE arithmetic: never -ffast-math, never a contracted
# multiply-add that differs between instruction sets, never -march=native.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(plumb_settings INTERFACE)
target_compile_options(plumb_settings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wold-style-cast -Werror=missing-field-initializers -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 reports copies inside std::string's operator+ that cannot happen (GCC bug 105651).
  target_compile_options(plumb_settings INTERFACE -Wno-restrict)
endif()
if(PLUMB_WERROR)
  # GCC 12 sees overlaps in std::string's own operator+ where there are none (GCC bug 105651).
  target_compile_options(plumb_settings INTERFACE -Werror $<$<CXX_COMPILER_ID:GNU>:-Wno-error=restrict>)
endif()
if(PLUMB_CHECKED)
  target_compile_definitions(plumb_settings INTERFACE _GLIBCXX_ASSERTIONS)
endif()
if(PLUMB_SANITIZE)
  target_compile_options(plumb_settings INTERFACE
    -O1 -fsanitize=${PLUMB_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(plumb_settings INTERFACE -fsanitize=${PLUMB_SANITIZE})
endif()
if(PLUMB_FUZZ)
  target_compile_options(plumb_settings INTERFACE -fsanitize=fuzzer-no-link)
endif()
