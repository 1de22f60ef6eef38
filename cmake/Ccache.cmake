# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
#
# Compiles through ccache where it is installed. Precompiled headers defeat
# ccache unless it may ignore their macros and timestamps, and clang must not
# write a timestamp into them.
find_program(MPT_CCACHE ccache)
mark_as_advanced(MPT_CCACHE)
if(MPT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(launcher ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${MPT_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    add_compile_options(
      "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Xclang -fno-pch-timestamp>")
  endif()
endif()
