// The same for Catch2 version 2 and 3.
#define CATCH_CONFIG_RUNNER
#include "tests/support/run_tests.h"

#include "tests/support/catch.h"

int RunTests(int argc, char** argv) { return Catch::Session().run(argc, argv); }
