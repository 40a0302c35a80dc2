// Numbers for people.

#ifndef PACKET_HEADERS_USER_BASE_SCALED_H_
#define PACKET_HEADERS_USER_BASE_SCALED_H_

#include <cstdint>
#include <string>

namespace packet_headers {

// Three digits and a prefix of powers of 1000, for a unit to follow: "812 ", "2.40 G".
std::string Scaled(double value);

// The same without one: "812", "2.40 G".
std::string ScaledCount(double value);

// In seconds, to the millisecond.
double Seconds(int64_t ns);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_BASE_SCALED_H_
