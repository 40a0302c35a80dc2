// What main() calls: Catch2 itself, compiled once for all test programs.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_RUN_TESTS_H_
#define PACKET_HEADERS_TESTS_SUPPORT_RUN_TESTS_H_

// Runs the tests that the command line chooses; returns the exit code.
int RunTests(int argc, char** argv);

#endif  // PACKET_HEADERS_TESTS_SUPPORT_RUN_TESTS_H_
