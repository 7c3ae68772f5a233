# plumb_room(NAME [ROOMS …] [LIBRARIES …]): the library plumb_NAME of src/NAME/*.cpp and of its subfolders, and from the
# *_test.cpp there the test program plumb_NAME_test. New files are found by the glob; no list is edited. ROOMS is also the table of allowed #include
# edges: tests/house_rules.py reads it.
function(plumb_room name)
  cmake_parse_arguments(ROOM "" "" "ROOMS;LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp ${CMAKE_SOURCE_DIR}/src/${name}/*/*.cpp)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(TRANSFORM ROOM_ROOMS PREPEND plumb_)
  if(sources)
    add_library(plumb_${name} STATIC ${sources})
    target_include_directories(plumb_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
    target_link_libraries(plumb_${name} PUBLIC ${ROOM_ROOMS} ${ROOM_LIBRARIES} PRIVATE plumb_settings)
  else()
    add_library(plumb_${name} INTERFACE)
    target_include_directories(plumb_${name} INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
    target_link_libraries(plumb_${name} INTERFACE ${ROOM_ROOMS} ${ROOM_LIBRARIES})
  endif()
  set_property(GLOBAL APPEND PROPERTY PLUMB_ROOMS plumb_${name})
  if(PLUMB_TESTS AND tests)
    plumb_test(plumb_${name}_test SOURCES ${tests} LIBRARIES plumb_${name})
  endif()
endfunction()

# plumb_test(NAME SOURCES … LIBRARIES … [LABELS …]): a GoogleTest program; each of its tests is a ctest of its own.
function(plumb_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT TEST_LABELS)
    set(TEST_LABELS fast)
  endif()
  add_executable(${name} ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE ${TEST_LIBRARIES} plumb_settings GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    PLUMB_SOURCE_DIR="${CMAKE_SOURCE_DIR}" PLUMB_SHARED_DIR="${CMAKE_SOURCE_DIR}/../shared")
  # Tests are many small programs whose own speed matters little; what they test keeps the preset's optimisation.
  target_compile_options(${name} PRIVATE -O1)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES LABELS ${TEST_LABELS} TIMEOUT 600)
endfunction()

# plumb_models(NAME …): a room whose files are architectures. Each src/models/ARCH.cpp that defines `Architecture ARCH()` is
# registered by its file's name: the build generates registry.inc. Files named after no architecture live in models/support/.
function(plumb_models name)
  file(GLOB architectures CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  list(FILTER architectures EXCLUDE REGEX "_test\\.cpp$")
  set(declarations "")
  set(entries "")
  foreach(path ${architectures})
    get_filename_component(architecture ${path} NAME_WE)
    string(APPEND declarations "Architecture ${architecture}();\n")
    string(APPEND entries "    ${architecture},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/registry.inc
       CONTENT "${declarations}\nconstexpr Architecture (*kArchitectures[])() = {\n${entries}};\n" @ONLY)
  plumb_room(${name} ${ARGN})
  if(TARGET plumb_${name})
    target_include_directories(plumb_${name} PRIVATE ${CMAKE_BINARY_DIR}/generated)
  endif()
endfunction()

# plumb_cpu_flags(FOLDER): those files of FOLDER that are named after an instruction set are compiled for it; which of them
# runs is decided at run time. On other processors than x86-64 they are left out.
function(plumb_cpu_flags folder)
  set(avx2 -mavx2 -mfma -mf16c)
  set(avxvnni ${avx2} -mavxvnni)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
  set(avx512vnni ${avx512} -mavx512vnni)
  set(avx512bf16 ${avx512vnni} -mavx512bf16)
  set(amx ${avx512bf16} -mamx-tile -mamx-int8 -mamx-bf16)
  foreach(isa avx2 avxvnni avx512 avx512vnni avx512bf16 amx)
    set(file ${CMAKE_SOURCE_DIR}/${folder}/${isa}.cpp)
    if(NOT EXISTS ${file})
      continue()
    elseif(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
      set_source_files_properties(${file} PROPERTIES HEADER_FILE_ONLY ON)
    else()
      # GCC 12 sees its own headers' undefined vectors as mistakes (GCC bug 105593).
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "${${isa}};$<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>")
    endif()
  endforeach()
  # The kernels are written for the optimiser: without it they are hundreds of times slower.
  if(NOT PLUMB_SANITIZE)
    file(GLOB kernels ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
    set_property(SOURCE ${kernels} APPEND PROPERTY COMPILE_OPTIONS -O3)
  endif()
endfunction()
