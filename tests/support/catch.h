// Catch2, version 3 or 2.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_CATCH_H_
#define PACKET_HEADERS_TESTS_SUPPORT_CATCH_H_

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#endif  // PACKET_HEADERS_TESTS_SUPPORT_CATCH_H_
