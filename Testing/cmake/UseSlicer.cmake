# The macros that the extension calls: what each does to files, and the checks of its arguments
include(CTest)

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS OR NOT MY_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: ${MY_UNPARSED_ARGUMENTS} NAME=${MY_NAME}")
  endif()
  set(copied)
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    if(IS_ABSOLUTE ${file} OR NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "slicerMacroBuildScriptedModule given nonexistent or absolute file '${file}'")
    endif()
    set(target ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${file})
    add_custom_command(
      OUTPUT ${target}
      COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${target}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file}
      )
    list(APPEND copied ${target})
    get_filename_component(folder ${file} DIRECTORY)
    install(FILES ${target}
      DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder}
      COMPONENT RuntimeLibraries
      )
  endforeach()
  add_custom_target(${MY_NAME} ALL DEPENDS ${copied})
  if(BUILD_TESTING AND MY_WITH_GENERIC_TESTS)
    file(APPEND ${CMAKE_BINARY_DIR}/registered_tests.txt "generic ${MY_NAME}\n")
  endif()
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(UNITTEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  if(UNITTEST_UNPARSED_ARGUMENTS OR NOT EXISTS ${UNITTEST_SCRIPT})
    message(FATAL_ERROR "slicer_add_python_unittest: ${UNITTEST_UNPARSED_ARGUMENTS} SCRIPT=${UNITTEST_SCRIPT}")
  endif()
  file(APPEND ${CMAKE_BINARY_DIR}/registered_tests.txt "unittest ${UNITTEST_SCRIPT} ${UNITTEST_SLICER_ARGS}\n")
endmacro()
